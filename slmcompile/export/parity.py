"""Does the exported model compute what the torch model computes?

Both read the same token ids, teacher-forced. fp32 must agree; quantised artifacts are measured
here and judged by the recipe's gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.console.progress import Progress
from slmcompile.data.control_tokens import split_at
from slmcompile.data.same_ids import read_as_token
from slmcompile.data.store import IGNORED, Row
from slmcompile.inference.batching import padded_right, similar_length
from slmcompile.inference.protocol import ExportedModel
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import Target

TOP1_AGREEMENT = {"fp32": 0.99, "fp16": 0.97, "f16": 0.97, "bf16": 0.9}
"""Least share of trained positions where weights that are not quantised must predict torch's token.
16 bits turn near ties."""


class Reference:
    """Torch's logits of some rows: by now where they take less room than the model, which may go.

    Args:
        model: the transformers model.
        rows: that are compared.
    """

    def __init__(self, model: Any, rows: Sequence[Row]) -> None:
        self.rows = rows
        lengths = [len(row.input_ids) for row in rows]
        vocabulary = model.config.get_text_config().vocab_size
        batches = similar_length(lengths, vocabulary)
        self.batches = [
            ([*batch], padded_right([rows[i].input_ids for i in batch], 0)) for batch in batches
        ]
        logits = sum(len(ids) * len(ids[0]) for _, ids in self.batches) * vocabulary
        keeps = logits < sum(weight.numel() for weight in model.parameters())
        self._kept = [_logits(model, ids) for _, ids in self.batches] if keeps else None
        self._model = None if keeps else model

    @property
    def needs_model(self) -> bool:
        """Whether the model is asked again, so that it has to stay as it is."""
        return self._model is not None

    def logits(self, number: int) -> Any:
        """Of a batch, [rows, positions, vocabulary] in float32."""
        if self._kept is not None:
            return self._kept[number]
        return _logits(self._model, self.batches[number][1])


def _logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor(ids), use_cache=False).logits.float()


def proved(
    target: Target,
    reference: Reference,
    exported: ExportedModel,
    progress: Progress,
) -> dict[str, float | int]:
    """The figures of ``measure``, where the export passes.

    Raises:
        StageFailedError: its tokenizer gives other ids, its runtime cannot compute what was built,
            or in floating point it predicts other tokens than torch (exit 1).
    """
    name = name_of(target)
    require_tokenizer(exported, reference.rows, name)
    progress.begin("parity with torch", len(reference.rows))
    figures = measure(reference, exported, progress.step, name)
    progress.end()
    if target.precision in TOP1_AGREEMENT:
        require_float(figures, name, target.precision)
    progress.say(
        f"given the references of {figures['rows']} rows, the same next token as torch at"
        f" {figures['top1_agreement']:.1%}"
    )
    return figures


def name_of(target: Target) -> str:
    """What messages call an artifact: its target, and who opens it."""
    maker = PROVIDERS[target.execution_provider].made_by
    return f"{target.execution_provider} {target.precision} by {maker}"


def measure(
    reference: Reference,
    exported: ExportedModel,
    on_progress: Callable[[int], None],
    name: str = "the export",
) -> dict[str, float | int]:
    """Compares logits on the reference's rows.

    Returns:
        rows, trained_tokens; max_abs_logit_diff and mean_abs_logit_diff over all positions;
        top1_agreement and mean_kl (nats, KL(torch || exported)) over trained positions.
        Floats are rounded to six significant digits.

    Raises:
        StageFailedError: the exported model's runtime fails at it (exit 1).
    """
    import torch

    total, rows = _Sum(), reference.rows
    for number, (batch, ids) in enumerate(reference.batches):
        expected = reference.logits(number)
        try:
            found = torch.from_numpy(exported.logits(ids))
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise StageFailedError(
                f"{name}: its runtime cannot compute what was built: {reason}",
                "choose another target, and report it with the model's architecture",
            ) from error
        for place, index in enumerate(batch):
            length = len(rows[index].input_ids)
            total.add(expected[place, :length], found[place, :length], rows[index].labels)
        on_progress(total.rows)
    return {
        "rows": total.rows,
        "trained_tokens": total.trained,
        "max_abs_logit_diff": _rounded(total.largest),
        "mean_abs_logit_diff": _rounded(total.difference / max(total.values, 1)),
        "top1_agreement": _rounded(total.agreed / max(total.trained, 1)),
        "mean_kl": _rounded(max(total.divergence, 0.0) / max(total.trained, 1)),
    }


class _Sum:
    """Running sums of one comparison, a row at a time."""

    def __init__(self) -> None:
        self.rows = self.values = self.trained = self.agreed = 0
        self.largest = self.difference = self.divergence = 0.0

    def add(self, expected: Any, found: Any, labels: Sequence[int]) -> None:
        """Adds a row's logits, [positions, vocabulary] each."""
        gap = (expected - found).abs()
        self.largest = max(self.largest, float(gap.max()))
        self.difference += float(gap.mean()) * gap.numel()
        self.values += gap.numel()
        trained = [place for place, label in enumerate(labels[1:]) if label != IGNORED]
        p, q = expected[trained].log_softmax(-1), found[trained].log_softmax(-1)
        self.divergence += float((p.exp() * (p - q)).sum())
        self.agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
        self.trained += len(trained)
        self.rows += 1


def require_float(figures: dict[str, float | int], name: str, precision: str = "fp32") -> None:
    """Refuses an artifact in floating point that does not predict what torch predicts."""
    least = TOP1_AGREEMENT[precision]
    if figures["top1_agreement"] < least:
        raise StageFailedError(
            f"{name}: the export agrees with torch on {figures['top1_agreement']:.1%} of"
            f" tokens, {least:.0%} are required",
            "report it with the model's architecture: the export is wrong, not the recipe",
        )


def require_tokenizer(exported: ExportedModel, rows: Sequence[Row], name: str) -> None:
    """Refuses an artifact whose own tokenizer gives other ids than the model was trained on.

    Or that lets a user's text become a control token, or an answer with one not come back.
    """
    open_to = read_as_token(exported.controls, exported.encode, name)
    if open_to:
        raise StageFailedError(open_to, "report it with the tokenizer's name")
    for row in rows:
        if row.document:
            _require_document(exported, row, name)
            continue
        answer = row.input_ids[len(row.prompt_ids) : -1]
        if exported.controls.count([row.completion]):
            decoded = exported.decode(answer)
            if decoded.strip() != row.completion.strip():
                raise StageFailedError(
                    f"{name}: its tokenizer gives {decoded[:60]!r} back for the"
                    f" answer {row.completion[:60]!r} of row {row.id}",
                    "leave control tokens out of the answers",
                )
        ids = exported.encode(split_at(row.prompt, row.prompt_cuts))
        if ids != row.prompt_ids:
            place = next(
                (i for i, (a, b) in enumerate(zip(ids, row.prompt_ids, strict=False)) if a != b),
                min(len(ids), len(row.prompt_ids)),
            )
            raise StageFailedError(
                f"{name}: its tokenizer differs from training at token {place}"
                f" of row {row.id}'s prompt ({len(ids)} tokens against {len(row.prompt_ids)})",
                "report it with the tokenizer's name: deployed prompts would be misread",
            )


def _require_document(exported: ExportedModel, row: Row, name: str) -> None:
    """The same of plain text that is in one piece, which its first and last tokens tell."""
    ids, known = exported.encode(row.completion), row.input_ids[:-1]
    starts = row.prompt_ids == exported.encode("")
    if starts and row.input_ids[-1] in exported.stops and ids != known:
        raise StageFailedError(
            f"{name}: its tokenizer differs from training in row {row.id}"
            f" ({len(ids)} tokens against {len(known)})",
            "report it with the tokenizer's name: deployed prompts would be misread",
        )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
