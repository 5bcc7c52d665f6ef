"""Graphs for a browser: products of integers compute what torch does, of every family."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.progress import Silent
from slmcompile.export.built import build_plain, write_tokenizer
from slmcompile.export.export import export
from slmcompile.facts.architecture import architecture
from slmcompile.inference.exported import open_exported
from slmcompile.providers import PROVIDERS
from slmcompile.providers.web import WebTarget, export_bytes
from tests.family_folders import FAMILIES, architecture_of_folder, make_family
from tests.stages.tiny_training import make_tokenizer
from tests.tiny_model import make_adapter, make_base, make_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
onnx = pytest.importorskip("onnx")

IDS = [[5, 17, 211, 30, 99, 17, 8, 301, 44, 12, 80, 7]]
INT8 = WebTarget(precision="int8")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def divergence(expected: Any, found: Any) -> float:
    """Mean of KL(torch || exported) over positions, nats."""
    p, q = expected.log_softmax(-1), torch.from_numpy(found).log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def operators(folder: Path) -> Counter[str]:
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "Olmo2"])
def test_every_family_multiplies_integers_and_says_what_torch_says(
    tmp_path: Path, family: str
) -> None:
    base = make_family(family, tmp_path / "base", make_tokenizer())
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    build_plain(INT8, model, base, out, scratch)
    write_tokenizer(INT8, base, out)
    found = operators(out)
    assert found["MatMulInteger"] > 0
    assert found["MatMul"] == 0
    assert found["Cast"] >= found["MatMulInteger"] + 1, "the embedding is of bytes too"
    with torch.inference_mode():
        expected = model(torch.tensor(IDS)).logits.float()
    opened = open_exported("web", out, 1)
    assert opened.ran == "emulated"
    assert divergence(expected, opened.logits(IDS)) < 0.05
    shapes = architecture_of_folder(base)
    told = export_bytes(INT8, shapes)
    size = (out / "model.onnx.data").stat().st_size
    assert told * 0.95 < size < told * 1.35, "what is no weight is much of so small a model"
    assert not list(tmp_path.rglob("*-fp32")), "what it is made of does not stay"


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_that_is_the_head_is_there_once(tmp_path: Path, tied: bool) -> None:
    sizes = {}
    for vocabulary in (512, 1024):
        place = tmp_path / str(vocabulary)
        base = make_family(
            "Llama",
            place / "base",
            make_tokenizer(),
            vocab_size=vocabulary,
            tie_word_embeddings=tied,
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        (place / "out").mkdir()
        (place / "scratch").mkdir()
        build_plain(INT8, model, base, place / "out", place / "scratch")
        sizes[vocabulary] = (place / "out/model.onnx.data").stat().st_size
    width, tables = 64, 1 if tied else 2
    assert sizes[1024] - sizes[512] == tables * 512 * (width + 4)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_an_export_is_proved_as_any_other(tmp_path: Path, precision: str) -> None:
    base = make_base(tmp_path / "model")
    adapter = make_adapter(base, tmp_path / "adapter")
    prompt = tmp_path / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    target, rows = WebTarget(precision=precision), make_rows(base)
    info = export(target, base, adapter, prompt, rows, out, scratch, Silent())
    assert info["execution_provider"] == "web"
    assert info["parity"]["mean_kl"] < {"fp32": 1e-6, "int8": 0.02, "int4": 0.6}[precision]
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))
    assert config["model"]["decoder"]["session_options"]["provider_options"] == []
    levels = {
        attribute.i
        for node in onnx.load(out / "model.onnx", load_external_data=False).graph.node
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    }
    assert levels <= {0}, "a browser does not quantise what comes in"


def test_a_model_that_no_browser_holds_is_refused_before_it_is_built() -> None:
    fault = PROVIDERS["web"].fault
    shapes = {
        "model.embed_tokens.weight": (128_256, 2048),
        **{
            f"model.layers.{layer}.mlp.{name}.weight": shape
            for layer in range(16)
            for name, shape in {
                "gate_proj": (8192, 2048),
                "up_proj": (8192, 2048),
                "down_proj": (2048, 8192),
            }.items()
        },
    }
    model = architecture({}, shapes, dict.fromkeys(shapes, "F32"))
    assert fault(INT8, model) is None
    found = fault(WebTarget(precision="fp32"), model)
    assert found is not None
    assert found[0] == "precision"
    assert "GB" in found[1]
