"""``inference_model.json``: what Foundry Local lists a folder of onnxruntime-genai by.

It takes a folder of its cache for a model where this file beside ``genai_config.json`` has a
``Name``, and renders conversations by the folder's own chat template. Earlier versions render by
``PromptTemplate``, in which ``{Content}`` stands for the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmcompile.data.template import parse

FILE = "inference_model.json"


def inference_model(name: str, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """Its content.

    Args:
        name: what the model is called there.
        prompt: content of ``prompt.json``. Only a prompt that one text fills, once, can be told;
            of others the template is null, which says that there is none.
    """
    template = None
    if prompt["text"] is not None and len(prompt["columns"]) == 1:
        pieces = parse(prompt["text"], "prompt.json: text")
        literals = [piece.literal for piece in pieces]
        once = sum(piece.field is not None for piece in pieces) == 1
        if once and not any("{Content}" in literal for literal in literals):
            text = "".join(
                piece.literal + ("{Content}" if piece.field is not None else "") for piece in pieces
            )
            template = {"assistant": "{Content}" + prompt["stop"]["text"], "prompt": text}
    return {"Name": name, "PromptTemplate": template}
