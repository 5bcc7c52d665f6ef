"""An exported folder for Qualcomm's neural processor, with the tokenizer that lies in it.

Rows are answered one at a time, so ``batch_size`` says nothing here: the graphs are of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import BadRecipeError, CorruptError
from slmcompile.data.store import Row
from slmcompile.inference.batching import until_stop
from slmcompile.inference.exported_prompt import ExportedPrompt, read_prompt
from slmcompile.inference.likelihood import log_likelihood
from slmcompile.inference.protocol import Generated, Ran
from slmcompile.inference.qnn_graphs import Graphs, open_graphs
from slmcompile.inference.speed import speed


def load(
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,
    adapter: Path | None = None,
) -> QnnModel:
    """Opens an exported folder.

    Args:
        folder: graphs, weights and tokenizer; may lie anywhere.
        threads: of the CPU provider; None leaves the choice to it.
        spinning: whether its idle threads wait busily.
        adapter: there is none that is not merged.

    Raises:
        CorruptError: the folder cannot be opened (exit 74).
        BadRecipeError: an adapter is asked for (exit 78).
        MissingError: the simulator is to answer and is not installed (exit 69).
    """
    from tokenizers import Tokenizer

    _require_none(adapter)
    graphs = open_graphs(folder, threads, spinning=spinning)
    try:
        tokenizer = Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
    except Exception as error:  # tokenizers raises Exception itself
        raise CorruptError(
            f"{folder / 'tokenizer.json'}: cannot be read: {error}", "export it again"
        ) from error
    return QnnModel(graphs, tokenizer, read_prompt(folder / "prompt.json"))


def _require_none(adapter: Path | None) -> None:
    if adapter is not None:
        raise BadRecipeError(
            f"{adapter}: an export for the neural processor has its adapter merged",
            "ask it without an adapter",
        )


class QnnModel:
    """``ExportedModel`` over the two graphs of a folder."""

    def __init__(self, graphs: Graphs, tokenizer: Any, prompt: ExportedPrompt) -> None:
        """See ``load``, which opens what this takes."""
        self.ran: Ran = graphs.ran
        self._graphs, self._tokenizer, self._prompt = graphs, tokenizer, prompt
        self.controls = prompt.controls
        self.control_texts: Mapping[int, str] = prompt.control_texts

    def with_adapter(self, adapter: Path | None) -> QnnModel:
        """The same model: there is no adapter that is not merged.

        Raises:
            BadRecipeError: one is asked for (exit 78).
        """
        _require_none(adapter)
        return self

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(self._graphs.told.stops)

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._graphs.told.context_length

    def encode(self, prompt: str | Sequence[str]) -> list[int]:
        """See ``ExportedModel.encode``."""
        pieces = (prompt,) if isinstance(prompt, str) else prompt
        encode = self._tokenizer.encode
        ids = [i for piece in pieces for i in encode(piece, add_special_tokens=False).ids]
        return self._prompt.behind_prefix(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """See ``ExportedModel.decode``."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def pieces(self) -> Callable[[int], str]:
        """See ``ExportedModel.pieces``."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=False)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        batch_size: int,  # noqa: ARG002 - the graphs are of one row
        on_progress: Callable[[int], None],
    ) -> list[Generated]:
        """See ``LanguageModel.generate``."""
        answers = []
        for prompt in prompts:
            ids: list[int] = []
            for token in self._graphs.steps(prompt, max_new_tokens + 1):
                ids.append(token)
                if token in self.stops:
                    break
            answers.append(until_stop(ids, self.stops, max_new_tokens))
            on_progress(len(answers))
        return answers

    def stream(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """See ``LanguageModel.stream``."""
        for token in self._graphs.steps(prompt_ids, max_new_tokens):
            if token in self.stops:
                return
            yield token

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """See ``ExportedModel.logits``."""
        import numpy as np

        return np.stack([self._graphs.logits(ids) for ids in sequences])

    def log_likelihood(
        self, rows: Sequence[Row], on_progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, int]]:
        """See ``LanguageModel.log_likelihood``."""
        found = []
        for row in rows:
            found.append(log_likelihood(self._graphs.logits(row.input_ids), row.labels))
            if on_progress is not None:
                on_progress(len(found))
        return found

    def decode_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """See ``LanguageModel.decode_speed``; a stop token does not end the timing."""
        return speed(lambda: self._graphs.steps(prompt, tokens + 1))
