"""What every runtime of a model can do; evaluation and the command line know nothing else.

All implementations decode greedily, stop at the same ids and answer a prompt as if it were alone,
so that a difference between two artifacts is a difference of their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from slmcompile.data.control_tokens import ControlTokens
from slmcompile.data.store import Row


@dataclass(frozen=True, slots=True)
class Generated:
    """A greedy answer.

    Attributes:
        ids: its tokens, without the stop token.
        cut_off: whether it ended at its limit and not at a stop token.
    """

    ids: list[int]
    cut_off: bool


Ran = Literal["verified", "simulated", "emulated", "generated"]
"""Whether the provider that an artifact was built for runs it, or the simulator of its device, or
the CPU's runs its graph, or that has no kernels for it and runs the same weights in fp32."""


class LanguageModel(Protocol):
    """A causal language model, loaded and ready."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        batch_size: int,
        on_progress: Callable[[int], None],
    ) -> list[Generated]:
        """Greedy answers, one per prompt and in their order.

        Args:
            prompts: token ids, each at least one.
            max_new_tokens: longest answer, behind which there is room for its stop token; a prompt
                near the context length gets less.
            batch_size: most prompts at once.
            on_progress: called with the number of prompts done.
        """

    def log_likelihood(
        self, rows: Sequence[Row], on_progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, int]]:
        """Of each row the sum of ln p over its trained positions, and their number."""

    def decode_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """Tokens a second of one stream after the prompt: warm, the median of three runs."""

    def stream(self, prompt_ids: Sequence[int], max_new_tokens: int) -> Iterator[int]:
        """Greedy answer to one prompt, token by token, without the stop token."""


class ExportedModel(LanguageModel, Protocol):
    """An exported folder, open in the runtime that it ships with: it reads and writes texts too.

    Attributes:
        ran: whether the provider that the folder was built for runs it.
        controls: texts of a prompt that are control tokens.
        control_texts: the same by id.
    """

    ran: Ran
    controls: ControlTokens
    control_texts: Mapping[int, str]

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""

    def encode(self, prompt: str | Sequence[str]) -> list[int]:
        """Token ids of a prompt, whole or in pieces, behind the prefix, which is not doubled."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens by their texts, as the torch model's answers are."""

    def pieces(self) -> Callable[[int], str]:
        """What turns the tokens of one answer, one after the other, into pieces of its text."""

    def logits(self, sequences: Sequence[Sequence[int]]) -> Any:
        """Logits at every position of sequences of one length, float32 [rows, positions, vocab]."""

    def with_adapter(self, adapter: Path | None) -> ExportedModel:
        """The same model, open once, with another adapter or with what it has by itself.

        Raises:
            CorruptError: the adapter is damaged (exit 74).
            BadRecipeError: it is none of this folder's (exit 78).
        """
