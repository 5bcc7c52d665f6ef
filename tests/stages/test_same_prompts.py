"""A conversation is written and split alike in training and by whatever opens an export.

Several turns, scripts and signs beyond ASCII, an empty system turn, tools and their calls: each
runtime writes the prompt by the template that its folder has, with its own engine (transformers',
and minja of onnxruntime-genai and of OpenVINO), and splits it by the folder's own tokenizer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.progress import Silent
from slmcompile.data.chat_render import Request, render_all
from slmcompile.data.tokenizer import load_tokenizer
from slmcompile.export.export import export
from slmcompile.inference import onnx_model
from slmcompile.inference.exported import open_exported
from slmcompile.recipe.schema import target_section
from tests.tiny_model import make_adapter, make_base, make_rows

torch = pytest.importorskip("torch")

TEMPLATE = """\
{%- if messages[0].role == 'system' or tools %}{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content }}{%- endif %}
{%- for tool in tools or [] %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>system\\nYou are a test.<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role != 'system' %}{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>' + call.function.name + ' ' }}{{- call.function.arguments | tojson }}
{{- '</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""Written as those of Qwen and SmolLM are: white space cut, a system turn where none is given."""

TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Schaltet <an> & 'aus', é",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "level": {"type": "number"}},
            "required": ["room"],
        },
    },
}
CALL = {"type": "function", "function": {"name": "set_light", "arguments": {"room": "küche"}}}
ASKED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "one turn": ([{"role": "user", "content": "turn on the lamp"}], None),
    "several": (
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": " turn it  off\n\nplease "},
        ],
        None,
    ),
    "unicode": (
        [
            {"role": "system", "content": "Tu es poli."},
            {"role": "user", "content": "allume la lumière 🕯️ 照明 \u200bA\u0301 ﬁ \u00a0"},
        ],
        None,
    ),
    "empty system": (
        [{"role": "system", "content": ""}, {"role": "user", "content": "go"}],
        None,
    ),
    "tools": (
        [
            {"role": "user", "content": "dim"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": '{"ok": true}'},
            {"role": "user", "content": "thanks"},
        ],
        [TOOL],
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    found = make_base(tmp_path_factory.mktemp("model"))
    config = found / "tokenizer_config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    told.pop("chat_template", None)
    config.write_text(json.dumps(told), encoding="utf-8")
    (found / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def trained(base: Path) -> dict[str, str]:
    """The prompts as the data stage writes them."""
    tokenizer = load_tokenizer(base)
    requests = [Request(messages, open=True, tools=tools) for messages, tools in ASKED.values()]
    found = [outcome.text for outcome in render_all(tokenizer, requests)]
    assert all(found)
    assert "küche" in found[-1]
    assert "You are a test" in found[0]
    assert found[3].startswith("<|im_start|>system\n<|im_end|>")
    return dict(zip(ASKED, found, strict=True))


def by_genai(folder: Path) -> list[str]:
    tokenizer = onnx_model.load(folder, 1).tokenizer
    return [
        tokenizer.apply_chat_template(
            json.dumps(messages), tools=json.dumps(tools or []), add_generation_prompt=True
        )
        for messages, tools in ASKED.values()
    ]


def by_transformers(folder: Path) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=True
        )
        for messages, tools in ASKED.values()
    ]


OPENVINO = """
import json, sys
import openvino_genai
tokenizer = openvino_genai.Tokenizer(sys.argv[1])
asked = json.load(sys.stdin)
json.dump([
    tokenizer.apply_chat_template(messages, add_generation_prompt=True, tools=tools or [])
    for messages, tools in asked
], sys.stdout)
"""


def by_openvino(folder: Path) -> list[str]:
    """In a process of its own: openvino_genai 2026.4 leaves its threads' signal stacks behind."""
    pytest.importorskip("openvino_genai")
    run = subprocess.run(
        [sys.executable, "-c", OPENVINO, str(folder)],
        input=json.dumps(list(ASKED.values())),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found: list[str] = json.loads(run.stdout)
    return found


def in_the_file(folder: Path) -> list[str]:
    """llama.cpp's own engine is its programs', not the library's: the template goes as it is."""
    gguf = pytest.importorskip("gguf")
    field = gguf.GGUFReader(folder / "model.gguf").get_field("tokenizer.chat_template")
    assert field.contents() == TEMPLATE
    return []


WRITERS: dict[tuple[str, str], Callable[[Path], list[str]]] = {
    ("cpu", "fp32"): by_genai,
    ("cuda", "fp16"): by_genai,
    ("web", "int8"): by_genai,
    ("hf", "fp32"): by_transformers,
    ("openvino", "fp32"): by_openvino,
    ("gguf", "f16"): in_the_file,
}


@pytest.mark.parametrize(("provider", "precision"), WRITERS)
def test_whatever_opens_the_folder_writes_and_splits_as_in_training(
    base: Path, trained: dict[str, str], tmp_path: Path, provider: str, precision: str
) -> None:
    if provider in ("gguf", "openvino"):
        pytest.importorskip({"gguf": "xllamacpp"}.get(provider, provider))
    out, scratch, prompt = tmp_path / "out", tmp_path / "scratch", tmp_path / "prompt.json"
    out.mkdir()
    scratch.mkdir()
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    adapter = make_adapter(base, tmp_path / "adapter")
    target = target_section({"execution_provider": provider, "precision": precision})
    export(target, base, adapter, prompt, make_rows(base), out, scratch, Silent())
    written = WRITERS[provider, precision](out)
    assert written in ([], list(trained.values()))
    model, own = open_exported(provider, out, 1), load_tokenizer(base)
    for name, text in trained.items():
        assert model.encode(text) == own.encode(text), name
