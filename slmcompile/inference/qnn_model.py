"""An exported folder for Qualcomm's neural processor, with the tokenizer that lies in it.

Rows are answered one at a time, so ``batch_size`` says nothing here: the graphs are of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.inference.exported_prompt import ExportedPrompt, read_prompt
from slmcompile.inference.merged import ReadByTokenizers, require_no_adapter
from slmcompile.inference.one_by_one import OneByOne
from slmcompile.inference.protocol import Ran
from slmcompile.inference.qnn_graphs import Graphs, open_graphs


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

    require_no_adapter(adapter)
    graphs = open_graphs(folder, threads, spinning=spinning)
    try:
        tokenizer = Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
    except Exception as error:  # tokenizers raises Exception itself
        raise CorruptError(
            f"{folder / 'tokenizer.json'}: cannot be read: {error}", "export it again"
        ) from error
    return QnnModel(graphs, tokenizer, read_prompt(folder / "prompt.json"))


class QnnModel(ReadByTokenizers, OneByOne):
    """``ExportedModel`` over the two graphs of a folder."""

    def __init__(self, graphs: Graphs, tokenizer: Any, prompt: ExportedPrompt) -> None:
        """See ``load``, which opens what this takes."""
        super().__init__(tokenizer, prompt)
        self.ran: Ran = graphs.ran
        self._graphs = graphs

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(self._graphs.told.stops)

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._graphs.told.context_length

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """See ``ExportedModel.logits``."""
        import numpy as np

        return np.stack([self._graphs.logits(ids) for ids in sequences])

    def steps(self, prompt: Sequence[int], most: int) -> Iterator[int]:
        """See ``OneByOne.steps``."""
        return self._graphs.steps(prompt, most)
