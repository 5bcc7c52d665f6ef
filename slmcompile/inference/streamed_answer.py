"""The answer of an exported model to one prompt, for a person who reads along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slmcompile.console.errors import UsageError
from slmcompile.inference.protocol import ExportedModel


class Answer:
    """The answer to a prompt's pieces: pieces of text, as they are decoded.

    Attributes:
        tokens: how many there were so far.
        cut_off: whether it has ended at a limit and not with a stop token; known at its end.
    """

    def __init__(self, model: ExportedModel, prompt: Sequence[str], max_new_tokens: int) -> None:
        """Encodes the prompt.

        Raises:
            UsageError: the prompt fills the model's context (exit 64).
        """
        self._model, self._ids, self._limit = model, model.encode(prompt), max_new_tokens
        self._room = model.context - len(self._ids)
        if self._room < 1:
            raise UsageError(
                f"the prompt has {len(self._ids)} tokens, the model's context {model.context}",
                "shorten the text",
            )
        self.tokens = 0
        self.cut_off = False

    def __iter__(self) -> Iterator[str]:
        text_of = self._model.pieces()
        # One more than the limit, as evaluations do: it tells whether the answer had ended there.
        for token in self._model.stream(self._ids, self._limit + 1):
            if self.tokens == self._limit:
                self.cut_off = True
                return
            self.tokens += 1
            piece = self._model.control_texts.get(token) or text_of(token)
            if piece:
                yield piece
        self.cut_off = self.tokens == self._room
