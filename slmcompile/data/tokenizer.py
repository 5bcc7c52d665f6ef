"""The tokenizer of a base model's folder, without torch and without the model's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from slmcompile.console.errors import BadRecipeError, CorruptError
from slmcompile.data import control_tokens as control

_FROM_FILE = {"PreTrainedTokenizerFast", "TokenizersBackend"}
"""The class, by its names in transformers 4 and 5, that adds nothing to what a file says; others
may decode in a way of their own."""


class Tokenizer(Protocol):
    """What the data stage uses of ``transformers.PreTrainedTokenizerBase``."""

    eos_token_id: int
    chat_template: str | dict[str, str] | None
    added_tokens_decoder: dict[int, Any]
    special_tokens_map: dict[str, Any]

    def __call__(self, text: Sequence[str] | str, **options: Any) -> Any:
        """Token ids of one or many texts."""

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        """Text of token ids."""

    def batch_decode(self, sequences: Sequence[Sequence[int]], **options: Any) -> list[str]:
        """Texts of many rows of token ids."""


def load_tokenizer(base: Path) -> Tokenizer:
    """The tokenizer of a folder in Hugging Face layout.

    ``tokenizer.json`` is taken as it stands: onnxruntime-genai reads the same file, whereas
    ``AutoTokenizer`` may rebuild it from vocabulary and merges in the class that the
    configuration names, and costs an import of torch (2 s). ``AutoTokenizer`` is left for folders
    that hold only a SentencePiece model.

    Raises:
        CorruptError: the folder holds no tokenizer that can be read (exit 74).
        BadRecipeError: the tokenizer has no end-of-sequence token (exit 78).
    """
    try:
        if (base / "tokenizer.json").is_file():
            from transformers import PreTrainedTokenizerFast

            loaded: Any = PreTrainedTokenizerFast.from_pretrained(base, local_files_only=True)
        else:
            from transformers import AutoTokenizer

            loaded = AutoTokenizer.from_pretrained(
                base, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, ImportError) as error:
        raise CorruptError(
            f"{base.name}: no tokenizer can be read: {str(error).splitlines()[0]}",
            "the model's folder needs tokenizer.json or tokenizer.model",
        ) from error
    if loaded.eos_token_id is None:
        raise BadRecipeError(
            "model: the tokenizer has no end-of-sequence token, so no answer could end",
            "set eos_token in the model's tokenizer_config.json",
        )
    return cast("Tokenizer", loaded)


def _backend(tokenizer: Tokenizer) -> Any:
    """What was read from ``tokenizer.json``, to be asked itself; None where there is more to it.

    What transformers 5.23 does around it for each row takes four times as long as decoding and a
    fifth of the time of encoding, and changes nothing.
    """
    return (
        getattr(tokenizer, "backend_tokenizer", None)
        if (type(tokenizer).__name__ in _FROM_FILE)
        else None
    )


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without special tokens around it and as long as it is."""
    backend = _backend(tokenizer)
    if backend is None or not texts:
        # A tokenizer of transformers has no ids for no texts.
        return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    backend.no_truncation()  # a limit may have been saved with the file
    backend.no_padding()
    return [each.ids for each in backend.encode_batch(texts, add_special_tokens=False)]


def texts_of(tokenizer: Tokenizer, rows: Sequence[Sequence[int]]) -> list[str]:
    """The text of each row of ids as it stands, special tokens and spaces too."""
    if (backend := _backend(tokenizer)) is not None:
        found: list[str] = backend.decode_batch(rows, skip_special_tokens=False)
        return found
    return tokenizer.batch_decode(
        rows, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """The text of one token as it stands in decoded text."""
    return tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)


def control_tokens(tokenizer: Tokenizer) -> control.ControlTokens:
    """The tokenizer's control tokens."""
    added = tokenizer.added_tokens_decoder
    return control.control_tokens(
        {token: (str(entry.content), bool(entry.special)) for token, entry in added.items()},
        control.strings(tokenizer.special_tokens_map),
        "".join(control.strings(tokenizer.chat_template)),
    )


def special_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Id → text of every special token."""
    added = tokenizer.added_tokens_decoder
    return {token: str(entry.content) for token, entry in added.items() if entry.special}
