"""The base model, as it was or as it was trained, in torch on the CPU."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.store import IGNORED, Row
from slmcompile.inference.batching import (
    decoded_together,
    padded_left,
    padded_right,
    similar_length,
)
from slmcompile.inference.protocol import Generated
from slmcompile.methods.keys import Precision


def load(
    base: Path,
    trained: Path | None,
    threads: int,
    precision: Precision,
    over: Path | None = None,
) -> TorchModel:
    """Loads the model that ships, for inference: an adapter is merged into the base in float32.

    So is one that QLoRA trained over a quantised base; no artifact has that base in it. An adapter
    that does not merge stays a module in the base.

    Args:
        base: base-model folder.
        trained: adapter folder or model folder, or None for the base model itself.
        threads: torch's threads in this process from now on.
        precision: what it computes in; bf16 is rounded after the merge.
        over: folder of an ONNX graph of the base, for the weights that the graph multiplies with
            in place of the base's own.
    """
    import torch

    from slmcompile.models.merge import load_merged

    torch.set_num_threads(threads)
    model = load_merged(base, trained, over)
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    return TorchModel(model, stop_ids(base))


def stop_ids(base: Path) -> frozenset[int]:
    """Ids that end an answer, by a base model's folder."""
    generation = json.loads((base / "generation_config.json").read_text(encoding="utf-8"))
    stops = generation["eos_token_id"]
    return frozenset([stops] if isinstance(stops, int) else stops)


class TorchModel:
    """``LanguageModel`` over a transformers model, which it puts into eval mode, on its device."""

    def __init__(self, model: Any, stops: frozenset[int]) -> None:
        self._model = model.eval()
        self._device = model.device
        self._stops = stops
        self._context: int = model.config.max_position_embeddings
        self._vocab: int = model.config.vocab_size

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        batch_size: int,
        on_progress: Callable[[int], None],
    ) -> list[Generated]:
        """See ``LanguageModel.generate``."""
        answers = [Generated([], cut_off=True) for _ in prompts]
        done = 0
        lengths = [len(prompt) for prompt in prompts]
        room = self._context - (max_new_tokens + 1)
        for batch in decoded_together(lengths, batch_size, room, self._vocab):
            found = self._greedy([prompts[i] for i in batch], max_new_tokens)
            for index, answer in zip(batch, found, strict=True):
                answers[index] = answer
            done += len(batch)
            on_progress(done)
        return answers

    def _greedy(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Generated]:
        """Decodes prompts together; rows that have stopped leave the batch."""
        import torch

        answers: list[list[int]] = [[] for _ in prompts]
        alive = list(range(len(prompts)))
        for tokens, cache in self._steps(prompts, max_new_tokens + 1):
            keep = []
            for place, (row, token) in enumerate(zip(alive, tokens, strict=True)):
                if token not in self._stops:
                    answers[row].append(token)
                    keep.append(place)
            if len(keep) < len(alive):
                cache.keep = torch.tensor(keep, device=self._device)
                alive = [alive[place] for place in keep]
            if not alive:
                break
        unfinished = set(alive)
        return [
            Generated(ids[:max_new_tokens], cut_off=row in unfinished)
            for row, ids in enumerate(answers)
        ]

    def _steps(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> Iterator[tuple[list[int], _Shrink]]:
        """Next tokens of the batch, step by step; the caller may ask for a smaller batch."""
        import torch

        ids = torch.tensor(padded_left(prompts, 0), device=self._device)
        # Prompts of one length need no mask, and attention is quicker without.
        padding: dict[str, Any] = {}
        if any(len(prompt) < ids.shape[1] for prompt in prompts):
            ones = padded_left([[1] * len(prompt) for prompt in prompts], 0)
            mask = torch.tensor(ones, device=self._device)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            padding = {"attention_mask": mask, "position_ids": positions}
        shrink = _Shrink()
        past: Any = None
        for _ in range(min(max_new_tokens, self._context - ids.shape[1])):
            with torch.inference_mode():
                out = self._model(
                    input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1, **padding
                )
            past = out.past_key_values
            following = out.logits[:, -1].argmax(-1)
            yield following.tolist(), shrink
            if shrink.keep is not None:
                following = following[shrink.keep]
                past.batch_select_indices(shrink.keep)
                padding = {name: each[shrink.keep] for name, each in padding.items()}
                shrink.keep = None
            ids = following[:, None]
            if padding:
                mask = padding["attention_mask"]
                padding = {
                    "attention_mask": torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1),
                    "position_ids": padding["position_ids"][:, -1:] + 1,
                }

    def log_likelihood(
        self, rows: Sequence[Row], on_progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, int]]:
        """See ``LanguageModel.log_likelihood``."""
        found, done = [(0.0, 0)] * len(rows), 0
        for batch in similar_length([len(row.input_ids) for row in rows], self._vocab):
            for index, scored in zip(batch, self._score([rows[i] for i in batch]), strict=True):
                found[index] = scored
            done += len(batch)
            if on_progress is not None:
                on_progress(done)
        return found

    def _score(self, rows: Sequence[Row]) -> list[tuple[float, int]]:
        import torch

        ids = torch.tensor(padded_right([row.input_ids for row in rows], 0), device=self._device)
        labels = padded_right([row.labels for row in rows], IGNORED)
        following = torch.tensor(labels, device=self._device)[:, 1:]
        trained = (following != IGNORED).any(0).nonzero().squeeze(1)
        with torch.inference_mode():
            # The LM head runs at the columns where some row is trained, and nowhere else.
            logits = self._model(input_ids=ids, use_cache=False, logits_to_keep=trained).logits
        targets = following[:, trained]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
        )
        totals = -loss.double().reshape(targets.shape).sum(1)
        counts = (targets != IGNORED).sum(1)
        return list(zip(totals.tolist(), counts.tolist(), strict=True))

    def decode_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """See ``LanguageModel.decode_speed``; a stop token does not end the timing."""
        return statistics.median(self._timed(prompt, tokens) for _ in range(4))

    def _timed(self, prompt: Sequence[int], tokens: int) -> float:
        steps = self._steps([prompt], tokens + 1)
        next(steps)
        start = time.perf_counter()
        count = sum(1 for _ in steps)
        return count / (time.perf_counter() - start)

    def stream(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """See ``LanguageModel.stream``."""
        for tokens, _ in self._steps([prompt_ids], max_new_tokens):
            if tokens[0] in self._stops:
                return
            yield tokens[0]


class _Shrink:
    """Rows of the batch that the next step keeps; None keeps all."""

    def __init__(self) -> None:
        self.keep: Any = None
