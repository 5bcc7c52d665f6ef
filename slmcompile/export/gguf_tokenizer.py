"""Puts a byte-level BPE tokenizer into a GGUF file.

llama.cpp knows splitters by names; a ``tokenizer.json`` says its own in regular expressions. Those
that are known here are looked up, any other is refused. That the ids are those of training is
measured on what was written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmcompile.console.errors import StageFailedError
from slmcompile.providers.llama_cpp import split_by, splitter


def add_tokenizer(writer: Any, model: Path, vocabulary: int) -> None:
    """Writes tokens, merges, control tokens and the chat template.

    Args:
        writer: ``gguf.GGUFWriter``.
        model: the saved model's folder.
        vocabulary: rows of the embedding; more than there are tokens in many models.

    Raises:
        StageFailedError: llama.cpp has no such tokenizer (exit 1).
    """
    import gguf

    told = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    kinds = gguf.TokenType
    tokens = {token: (text, kinds.NORMAL) for text, token in told["model"].get("vocab", {}).items()}
    for added in told.get("added_tokens", ()):
        kind = kinds.CONTROL if added["special"] else kinds.USER_DEFINED
        tokens[added["id"]] = (added["content"], kind)
    # The name is looked up behind the vocabulary, which a SentencePiece model's would fail at.
    name = _splitter(told)
    every = [tokens.get(token, (f"[PAD{token}]", kinds.UNUSED)) for token in range(vocabulary)]
    merges = [each if isinstance(each, str) else " ".join(each) for each in told["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list([text for text, _ in every])
    writer.add_token_types([kind for _, kind in every])
    writer.add_token_merges(merges)
    _add_special(writer, model, {text: token for token, (text, _) in tokens.items()})


def _add_special(writer: Any, model: Path, ids: dict[str, int]) -> None:
    """Which tokens begin and end a text, and how a conversation is written."""
    from tokenizers import Tokenizer

    generation = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    stops = generation["eos_token_id"]
    first, *more = [stops] if isinstance(stops, int) else stops
    writer.add_eos_token_id(first)
    for token in more[:1]:
        writer.add_eot_token_id(token)
    config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    begin = config.get("bos_token")
    begin = begin.get("content") if isinstance(begin, dict) else begin
    if begin in ids:
        writer.add_bos_token_id(ids[begin])
    written = Tokenizer.from_file(str(model / "tokenizer.json")).encode("a").ids
    writer.add_add_bos_token(begin in ids and written[:1] == [ids[begin]])
    template = model / "chat_template.jinja"
    text = template.read_text("utf-8") if template.is_file() else config.get("chat_template")
    if isinstance(text, str):
        writer.add_chat_template(text)


def _splitter(told: dict[str, Any]) -> str:
    """llama.cpp's name of what splits a text before its pieces are merged."""
    name = splitter(told)
    if name is None:
        raise StageFailedError(
            f"gguf: how this tokenizer splits a text has no known name in llama.cpp"
            f" ({told['model'].get('type')}, {' '.join(split_by(told))[:80]})",
            "leave this target out: another one (target=[cpu-int8]) tokenises as trained",
        )
    return name
