"""A model that takes one row at a time: answers, likelihoods and speed from its steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from slmcompile.data.store import Row
from slmcompile.inference.batching import until_stop
from slmcompile.inference.likelihood import log_likelihood
from slmcompile.inference.protocol import Generated
from slmcompile.inference.speed import speed


class OneByOne:
    """The part of an ``ExportedModel`` that follows from ``steps``, ``logits`` and ``stops``."""

    @abstractmethod
    def steps(self, prompt: Sequence[int], most: int) -> Iterator[int]:
        """Greedy tokens behind a prompt, whether they are stop tokens or not."""

    @abstractmethod
    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """See ``ExportedModel.logits``."""

    @property
    @abstractmethod
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        batch_size: int,  # noqa: ARG002 - one at a time
        on_progress: Callable[[int], None],
    ) -> list[Generated]:
        """See ``LanguageModel.generate``."""
        answers: list[Generated] = []
        for prompt in prompts:
            ids: list[int] = []
            for token in self.steps(prompt, max_new_tokens + 1):
                ids.append(token)
                if token in self.stops:
                    break
            answers.append(until_stop(ids, self.stops, max_new_tokens))
            on_progress(len(answers))
        return answers

    def stream(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """See ``LanguageModel.stream``."""
        for token in self.steps(prompt_ids, max_new_tokens):
            if token in self.stops:
                return
            yield token

    def log_likelihood(
        self, rows: Sequence[Row], on_progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, int]]:
        """See ``LanguageModel.log_likelihood``."""
        found: list[tuple[float, int]] = []
        for row in rows:
            found.append(log_likelihood(self.logits([row.input_ids])[0], row.labels))
            if on_progress is not None:
                on_progress(len(found))
        return found

    def decode_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """See ``LanguageModel.decode_speed``; a stop token does not end the timing."""
        return speed(lambda: self.steps(prompt, tokens + 1))
