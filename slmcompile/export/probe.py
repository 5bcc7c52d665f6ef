"""Measures what 4 bits cost a trained model, one group of its weights after the other.

In torch, with the very weights that the builder's quantiser leaves, and on the answers of
validation rows: how much the mean nll of their tokens rises when that group alone is narrow, and
how far it moves what the model expects there. What the runtime rounds beside, activations to
8 bits, is not in it; it is the same for every group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import nn

from slmcompile.console.progress import Progress
from slmcompile.data.store import IGNORED, Row
from slmcompile.export.resumed import Layers, layers_of
from slmcompile.export.rounding import Algorithm, rounded
from slmcompile.inference.batching import padded_right, similar_length
from slmcompile.providers.mixed import NARROW, Group, groups_of

ROWS = 64
"""Validation rows that are asked at most."""

_KEPT = 1 << 27
"""Numbers that are kept of what the model expects, one for each token of the vocabulary at each
place of an answer (512 MiB)."""

_DIGITS = 7
"""Decimals that are kept: what differs behind them is the order of sums."""


def linears_of(model: Any) -> dict[str, nn.Linear]:
    """A model's linear layers by name, the head's too."""
    return {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}


def linear_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """[out, in] of each."""
    return {name: (each.out_features, each.in_features) for name, each in linears_of(model).items()}


def asked_of(rows: Sequence[Row], vocabulary: int) -> list[Row]:
    """As many of some rows, from the first on, as what is expected of can be kept; at least one."""
    kept: list[Row] = []
    room = _KEPT // vocabulary
    for row in rows:
        room -= len(row.input_ids) - len(row.prompt_ids)
        if kept and room < 0:
            break
        kept.append(row)
    return kept


def answer_log_probs(
    model: Any, rows: Sequence[Row]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities of all tokens where a row is trained, and those that stand there.

    Yields:
        [places, vocabulary] fp32 and [places], of a batch.
    """
    for batch in similar_length([len(row.input_ids) for row in rows], model.config.vocab_size):
        ids = torch.tensor(padded_right([rows[i].input_ids for i in batch], 0))
        labels = torch.tensor(padded_right([rows[i].labels for i in batch], IGNORED))[:, 1:]
        columns = (labels != IGNORED).any(0).nonzero().squeeze(1)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=columns).logits.float()
            trained = labels[:, columns] != IGNORED
            yield logits[trained].log_softmax(-1), labels[:, columns][trained]


def probe(model: Any, rows: Sequence[Row], block: int, progress: Progress) -> dict[str, Any]:
    """What every group costs, and which algorithm costs less over all of them.

    Args:
        model: a causal language model of transformers, fp32, as it was trained; given back as it
            was.
        rows: of the validation split; at least one.
        block: weights that share one scale.
        progress: told each group.

    Returns:
        ``algorithm``; ``nll`` of the model as it is; by algorithm ``all_narrow`` and by group
        ``groups``: the ``rise`` of the nll, and the ``divergence`` (see ``Cost``).
    """
    asked = _Asked(model, rows, groups_of(linear_shapes(model), block), block)
    progress.say(f"nll {asked.nll:.4f} of {len(rows)} validation rows; measuring it in 4 bits")
    all_narrow: dict[Algorithm, Cost] = {
        algorithm: asked.with_narrow(asked.groups, algorithm) for algorithm in get_args(Algorithm)
    }
    best = min(all_narrow, key=lambda algorithm: all_narrow[algorithm].divergence)
    progress.begin("group", len(asked.groups))
    costs = {}
    for number, group in enumerate(asked.groups, 1):
        costs[group.name] = asked.with_narrow([group], best)
        progress.step(number)
    progress.end()
    return {
        "algorithm": best,
        "nll": round(asked.nll, _DIGITS),
        "all_narrow": {name: asked.told(cost) for name, cost in all_narrow.items()},
        "groups": {name: asked.told(cost) for name, cost in costs.items()},
    }


@dataclass(frozen=True)
class Cost:
    """What a model is worth with some of its weights narrow.

    Attributes:
        nll: of the answers' tokens, on average.
        divergence: mean KL divergence of what it expects at each of them from what it expected
            with the weights as they are. A few rows that it half knows decide the nll, and it
            rises and falls with them by chance; the divergence sees every token.
    """

    nll: float
    divergence: float


class _Asked:
    """A model that is asked for the same answers, with some of its groups narrow or none."""

    def __init__(
        self, model: Any, rows: Sequence[Row], groups: Sequence[Group], block: int
    ) -> None:
        self.groups = groups
        self._model, self._rows, self._block = model, rows, block
        self._modules = linears_of(model)
        self._tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        self._layers = Layers(layers_of(model), [self._first(group) for group in groups])
        with self._layers.remembered():
            self._as_it_is = list(answer_log_probs(model, rows))
        self.nll = self._cost(self._as_it_is).nll

    def with_narrow(self, narrow: Sequence[Group], algorithm: Algorithm) -> Cost:
        """With some groups narrow; the weights are put back."""
        names = [name for group in narrow for name in group.modules]
        weights = [self._modules[name].weight.data for name in names]
        before = [weight.clone() for weight in weights]
        try:
            for weight in weights:
                weight.copy_(rounded(weight, NARROW, self._block, algorithm))
            with self._layers.changed_from(min(map(self._first, narrow))):
                return self._cost(answer_log_probs(self._model, self._rows))
        finally:
            for weight, was in zip(weights, before, strict=True):
                weight.copy_(was)

    def told(self, cost: Cost) -> dict[str, float]:
        """For a record."""
        rise = round(cost.nll - self.nll, _DIGITS)
        return {"rise": rise, "divergence": round(cost.divergence, _DIGITS)}

    def _first(self, group: Group) -> int:
        """Of the layers that a group changes; a tied head changes what goes into the first."""
        if group.first >= 0:
            return group.first
        return 0 if self._tied else len(self._layers)

    def _cost(self, found: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Cost:
        nll = divergence = tokens = 0.0
        for (before, targets), (after, _) in zip(self._as_it_is, found, strict=True):
            divergence += float((before.exp() * (before - after)).sum(dtype=torch.float64))
            nll -= float(after.gather(1, targets[:, None]).sum(dtype=torch.float64))
            tokens += len(targets)
        return Cost(nll / max(1, tokens), divergence / max(1, tokens))
