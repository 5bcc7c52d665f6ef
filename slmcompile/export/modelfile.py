"""Ollama's ``Modelfile`` beside a GGUF file: how a prompt is written, and that nothing is sampled.

A recipe with one column is asked by that column alone, in the very words of its prompts. Another
one that can be written without a chat template gets the prompt as a whole, and the file says so. A
conversation is written by the chat template, where that is ChatML, which is tried on it; any other
is left to who asks, and the file says that too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmcompile.console.errors import SlmcompileError
from slmcompile.data.template import parse
from slmcompile.files.artifact import write_text
from slmcompile.inference.gguf_file import FILE

_WHOLE = "# Give the whole prompt, as prompt.json writes it: no template is put around it."
_CHATML = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)
_MOST_CONTEXT = 8192
"""Tokens that Ollama holds memory for, whatever the model could see."""


def write(base: Path, out: Path) -> None:
    """Writes ``Modelfile`` into a folder that has all else.

    Args:
        base: base-model folder, for its chat template and stop tokens.
        out: holds ``prompt.json`` and the model.
    """
    prompt = json.loads((out / "prompt.json").read_text(encoding="utf-8"))
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    template, system, note = _template(prompt, base)
    lines = [f"FROM ./{FILE}"]
    lines += [note] if note else []
    lines.append(f'TEMPLATE """{template}"""')
    lines += [f'SYSTEM """{system}"""'] if system else []
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1"]
    context = min(config.get("max_position_embeddings", _MOST_CONTEXT), _MOST_CONTEXT)
    lines.append(f"PARAMETER num_ctx {context}")
    stop = prompt.get("stop", {}).get("text", "")
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}"] if stop else []
    write_text(out / "Modelfile", "\n".join(lines) + "\n")


def _template(prompt: Mapping[str, Any], base: Path) -> tuple[str, str, str]:
    """Template, system message and a note for people; empty ones are left out."""
    text = prompt.get("text")
    if text is not None:
        pieces = parse(text, "prompt.json: text")
        asked = [piece.field for piece in pieces if piece.field is not None]
        whole = "".join(
            _literal(piece.literal) + ("{{ .Prompt }}" if piece.field is not None else "")
            for piece in pieces
        )
        if len(asked) == 1 and '"""' not in whole:
            return whole, "", ""
        return "{{ .Prompt }}", "", _WHOLE
    system = _chatml(base)
    if system is None or '"""' in system:
        return "{{ .Prompt }}", "", _WHOLE
    return _CHATML, system, ""


def _literal(text: str) -> str:
    """Text that a Go template writes as it stands."""
    return text.replace("{{", '{{ "{{" }}')


def _chatml(base: Path) -> str | None:
    """What a base's chat template says first of all where it is ChatML; None where it is none."""
    from slmcompile.data.tokenizer import load_tokenizer

    user = {"role": "user", "content": "first"}
    talk = [{"role": "system", "content": "so"}, user, {"role": "assistant", "content": "second"}]
    try:
        tokenizer: Any = load_tokenizer(base)
        options = {"tokenize": False, "add_generation_prompt": True}
        alone = str(tokenizer.apply_chat_template([user], **options))
        long = str(tokenizer.apply_chat_template([*talk, user], **options))
    except (SlmcompileError, ValueError, TypeError):
        return None
    if long != _written([*talk, user]) or not alone.endswith(_written([user])):
        return None
    told = alone.removesuffix(_written([user]))
    system = told.removeprefix("<|im_start|>system\n").removesuffix("<|im_end|>\n")
    turn = f"<|im_start|>system\n{system}<|im_end|>\n"
    return system if told in {"", turn} else None


def _written(messages: list[dict[str, str]]) -> str:
    """ChatML, as ``_CHATML`` writes it."""
    turns = [f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages]
    return "".join(turns) + "<|im_start|>assistant\n"
