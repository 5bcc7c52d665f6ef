"""What a model says to rows, as lines of ``answers.jsonl``, whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.data.store import Row
from slmcompile.inference.protocol import LanguageModel

Decode = Callable[[list[int]], str]


def decoder(base: Path) -> Decode:
    """Text of an answer's ids, by the tokenizer of a base model's folder."""
    from slmcompile.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(base)

    def decode(ids: list[int]) -> str:
        return str(
            tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    return decode


def ask(
    model: LanguageModel,
    rows: Sequence[Row],
    decode: Decode,
    max_new_tokens: int,
    batch_size: int,
    on_progress: Callable[[int], None],
) -> dict[int, dict[str, Any]]:
    """Greedy answers by the rows' ids: ``text``, ``ids`` and ``cut_off``.

    Args:
        model: who answers.
        rows: all of them are asked.
        decode: the model's own.
        max_new_tokens: longest answer.
        batch_size: most prompts at once.
        on_progress: called with the number of rows done.
    """
    prompts = [row.prompt_ids for row in rows]
    answers = model.generate(prompts, max_new_tokens, batch_size, on_progress)
    return {
        row.id: {"text": decode(answer.ids), "ids": answer.ids, "cut_off": answer.cut_off}
        for row, answer in zip(rows, answers, strict=True)
    }


def lines(
    rows: Sequence[Row],
    answers: Mapping[int, Mapping[str, Any]],
    likelihoods: Sequence[tuple[float, int]] | None = None,
) -> list[dict[str, Any]]:
    """A line of each row: what it was answered, where it was asked, and its likelihood."""
    found = [{"id": row.id, **answers.get(row.id, {})} for row in rows]
    if likelihoods is not None:
        for line, (log_likelihood, tokens) in zip(found, likelihoods, strict=True):
            line |= {"log_likelihood": log_likelihood, "tokens": tokens}
    return found
