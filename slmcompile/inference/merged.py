"""What models have in common whose adapter is merged: how a prompt begins, and no other adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import BadRecipeError
from slmcompile.inference.exported_prompt import ExportedPrompt

if TYPE_CHECKING:
    from typing_extensions import Self


def require_no_adapter(adapter: Path | None) -> None:
    """Refuses one beside a folder that has its own merged.

    Raises:
        BadRecipeError: one is asked for (exit 78).
    """
    if adapter is not None:
        raise BadRecipeError(
            f"{adapter}: the export has its adapter merged, and there are no adapters beside it",
            "ask it without an adapter",
        )


class Merged:
    """The part of an ``ExportedModel`` that ``prompt.json`` says."""

    def __init__(self, prompt: ExportedPrompt) -> None:
        self._prompt = prompt
        self.controls = prompt.controls
        self.control_texts: Mapping[int, str] = prompt.control_texts

    def with_adapter(self, adapter: Path | None) -> Self:
        """The same model: there is no adapter that is not merged.

        Raises:
            BadRecipeError: one is asked for (exit 78).
        """
        require_no_adapter(adapter)
        return self


class ReadByTokenizers(Merged):
    """One whose folder has a ``tokenizer.json`` that the library tokenizers reads."""

    def __init__(self, tokenizer: Any, prompt: ExportedPrompt) -> None:
        super().__init__(prompt)
        self._tokenizer = tokenizer

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
