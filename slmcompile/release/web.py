"""A page that answers by the model beside it: what any server of files needs, and no other host.

The page and its modules are this project's own (``site/``); what runs the model and splits texts
are packages of npm. ``app.json`` tells them how prompts are written and what answers were measured,
by which the page finds a tokenizer that reads otherwise before it answers anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.data.asked import example
from slmcompile.files import artifact
from slmcompile.files.artifact import json_text
from slmcompile.release import web_runtime
from slmcompile.release.packed import Packed, Packing
from slmcompile.release.programs import MAX_NEW_TOKENS, Asked, in_parts
from slmcompile.report.inert import block
from slmcompile.stages.scores import PREDICTIONS, read_predictions

APP = "app.json"
SITE = Path(__file__).parent / "site"
_RUNTIME = "runtime"
_EXAMPLES = 5
_OURS = "slmcompile (the page and its modules), license: Apache-2.0"
_OWN = ("index.html", "model.mjs", "page.css", "page.mjs", "serve.py", "worker.mjs")
_BY_WEBGPU = frozenset({"fp32", "int4"})
"""Precisions that WebGPU multiplies; the products of integers it leaves to WebAssembly."""


def entries(packing: Packing) -> Packed:
    """Page, runtime and licences.

    Raises:
        MissingError: a package of npm is not in the project's folder (exit 69).
        CorruptError: one has other bytes, or the export does not say how it is asked (exit 74).
    """
    asked = packing.asked
    if asked is None:
        raise CorruptError(f"{packing.found.stage.out}: cannot be read", "export it again")
    webgpu = packing.known.manifest["info"]["precision"] in _BY_WEBGPU
    runtime = web_runtime.runtime(packing.project, webgpu=webgpu)
    files = {name: (SITE / name).read_bytes() for name in _OWN}
    files |= {f"{_RUNTIME}/{name}": data for name, data in runtime.items()}
    listed = packing.known.manifest["files"]
    sizes = {name: int(entry["size"]) for name, entry in listed.items()}
    told = app(packing.name, asked, sizes, webgpu=webgpu)
    talk = not told["columns"]
    told["examples"] = list(_examples(packing, asked.prompt, talk=talk))
    files[APP] = json_text(told).encode("utf-8")
    usage = (
        "Any server of static files serves it; this one is in the folder, and isolates the page, so"
        " that WebAssembly may have several threads:",
        block("python serve.py", "sh"),
    )
    return Packed(files, usage, [*web_runtime.works(), _OURS])


def app(name: str, asked: Asked, sizes: Mapping[str, int], *, webgpu: bool) -> dict[str, Any]:
    """What the page's modules know of the model, without examples.

    Args:
        name: what the page is called.
        asked: how the model is asked.
        sizes: bytes of the export's files by name.
        webgpu: whether a graphics processor may run it.
    """
    model, prompt = asked.model, asked.prompt
    decoder = model["decoder"]
    stops = model["eos_token_id"]
    given, made = decoder["inputs"], decoder["outputs"]
    weights = sorted(name for name in sizes if name.startswith("model.onnx"))
    talk = prompt["template"].get("type") == "messages"
    return {
        "format_version": "1.0",
        "name": name,
        "files": [{"path": each, "size": sizes[each]} for each in weights],
        "webgpu": webgpu,
        "columns": [] if talk else list(prompt["columns"]),
        "parts": None if talk or prompt["text"] is None else _parts(prompt["text"]),
        "chat": None if talk else _chat(prompt["template"]),
        "enable_thinking": bool(prompt.get("enable_thinking")),
        "prefix_ids": asked.prefix,
        "control_tokens": prompt.get("control_tokens", {}),
        "stops": [stops] if isinstance(stops, int) else list(stops),
        "context_length": int(model["context_length"]),
        "max_new_tokens": MAX_NEW_TOKENS,
        "past": [
            {
                "from": given[f"past_{kind}_names"] % layer,
                "to": made[f"present_{kind}_names"] % layer,
            }
            for layer in range(int(decoder["num_hidden_layers"]))
            for kind in ("key", "value")
        ],
        "past_shape": [1, int(decoder["num_key_value_heads"]), 0, int(decoder["head_size"])],
        "positions": "position_ids" in given,
        "examples": [],
    }


def _parts(text: str) -> list[str | list[str]]:
    """A text of a prompt: its own words, and a list of one for the value of a column."""
    return [[name] if name is not None else own for own, name in in_parts(text)]


def _chat(template: Mapping[str, Any]) -> dict[str, Any] | None:
    """The messages that a question is made of, where the template is a chat's."""
    if template.get("type") != "chat":
        return None
    return {"system": template["system"], "user": _parts(template["user"])}


def _examples(
    packing: Packing, prompt: Mapping[str, Any], *, talk: bool
) -> Iterator[dict[str, Any]]:
    """Prompts as they were measured, with their ids and answers, that ended by themselves."""
    from tokenizers import Tokenizer

    artifact.verify_used(packing.known.scored, [PREDICTIONS])
    rows = read_predictions(packing.known.scored).get(packing.found.target, [])
    tokenizer = Tokenizer.from_file(str(packing.found.folder / "tokenizer.json"))
    prefix = [int(token) for token in prompt.get("prefix_ids", ())]
    whole = [row for row in rows if not row.get("cut_off")]
    for row, values in islice(_chosen(whole, prompt), _EXAMPLES):
        ids: list[int] = tokenizer.encode(row["prompt"], add_special_tokens=False).ids
        yield {
            "values": {"message": next(iter(values.values()))} if talk and values else values,
            "prompt": row["prompt"],
            "ids": ids if ids[: len(prefix)] == prefix else [*prefix, *ids],
            "answer": row["prediction"],
        }


def _chosen(
    rows: Sequence[Mapping[str, Any]], prompt: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, str] | None]]:
    """Some rows and what a person would type for each; as many answers as there are among them."""
    first = {row["prediction"]: row["id"] for row in reversed(rows)}
    for row in sorted(rows, key=lambda row: first[row["prediction"]] != row["id"]):
        found = example(prompt, [row["prompt"]])
        if found or prompt["text"] is None:
            yield row, found[1] if found else None
