"""What a builder, or the runtime behind it, would refuse of a model, a plan refuses before it."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.progress import Silent
from slmcompile.export.export import export
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.schema import target_section
from tests.family_folders import architecture_of_folder, make_family
from tests.tiny_model import make_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.long

UNSTRETCHED = {"sliding_window": None}


def rotated(kind: str, **more: Any) -> dict[str, Any]:
    return {**UNSTRETCHED, "rope_parameters": {"rope_type": kind, "rope_theta": 1e4, **more}}


LINEAR = rotated("linear", factor=2.0)
LLAMA3 = rotated(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)  # fmt: skip
YARN = rotated("yarn", factor=2.0, original_max_position_embeddings=64)
DYNAMIC = rotated("dynamic", factor=2.0)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama of gelu": ("Llama", {"hidden_act": "gelu"}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear": ("Llama", LINEAR),
    "llama, llama3": ("Llama", LLAMA3),
    "llama, yarn": ("Llama", YARN),
    "llama, dynamic": ("Llama", DYNAMIC),
    "llama with heads of 8": ("Llama", {"head_dim": 8}),
    "llama with heads of 24": ("Llama", {"head_dim": 24}),
    "mistral": ("Mistral", UNSTRETCHED),
    "mistral with a window": ("Mistral", {}),
    "mistral, linear": ("Mistral", LINEAR),
    "mistral, llama3": ("Mistral", LLAMA3),
    "qwen2 with windows": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 0}),
    "qwen2, dynamic": ("Qwen2", DYNAMIC),
    "qwen3": ("Qwen3", {}),
    "qwen3 with biases": ("Qwen3", {"attention_bias": True}),
    "qwen3, yarn": ("Qwen3", YARN),
    "phi3": ("Phi3", {}),
    "phi3, half turned": (
        "Phi3",
        {"head_dim": 32, "hidden_size": 128, "partial_rotary_factor": 0.5},
    ),
    "phi3, little turned": ("Phi3", {"partial_rotary_factor": 0.5}),
    "gemma2": ("Gemma2", {}),
    "gemma2, linear": ("Gemma2", {**LINEAR, "sliding_window": 4}),
    "gemma3": ("Gemma3Text", {}),
    "smollm3, linear": ("SmolLM3", LINEAR),
    "hunyuan with heads of 24": ("HunYuanDenseV1", {"head_dim": 24}),
    "olmo2": ("Olmo2", {}),
}
TARGETS = [
    ("cpu", "fp32"),
    ("cuda", "fp16"),
    ("webgpu", "int4"),
    ("web", "int8"),
    ("gguf", "f16"),
    ("hf", "bf16"),
]


def refused_by_plan(provider: str, target: Any, folder: Path) -> bool:
    known = PROVIDERS[provider]
    family = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    return family not in known.architectures or bool(
        known.fault(target, architecture_of_folder(folder))
    )


def exports(target: Any, folder: Path, place: Path, base: Path) -> str:
    """What an export fails with; nothing where it does not."""
    out, scratch, prompt = place / "out", place / "scratch", place / "prompt.json"
    out.mkdir(parents=True)
    scratch.mkdir()
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    try:
        export(target, folder, folder, prompt, make_rows(base), out, scratch, Silent())
    except Exception as error:  # noqa: BLE001 - whatever a library fails with
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("model", MODELS)
def test_a_plan_refuses_what_an_export_would_fail_at_and_nothing_else(
    base: Path, tmp_path: Path, model: str
) -> None:
    family, changes = MODELS[model]
    own = transformers.AutoTokenizer.from_pretrained(base)
    folder = make_family(family, tmp_path / "model", own, **changes)
    shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")
    # Qwen 2's class builds its own splitter, whatever this tokenizer says: another test's matter.
    targets = [pair for pair in TARGETS if pair != ("hf", "bf16") or family != "Qwen2"]
    for name, precision in targets:
        if name == "gguf" and not find_spec("xllamacpp"):
            continue
        target = target_section({"execution_provider": name, "precision": precision})
        failed = exports(target, folder, tmp_path / name, base)
        # Of quantised weights nobody requires that they predict as torch does.
        silent = precision.startswith("int") and refused_by_plan(name, target, folder)
        assert silent or refused_by_plan(name, target, folder) == bool(failed), (name, failed)
