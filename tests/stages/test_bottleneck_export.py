"""Bottleneck adapters ship as nodes of the graph: the same numbers and tokens as in torch."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.export import graph_adapters
from slmcompile.export.export import export
from slmcompile.export.parity import Reference, measure, require_float
from slmcompile.files.artifact import sha256_file, write_json
from slmcompile.inference import onnx_model, torch_model
from slmcompile.methods.bottleneck import Bottleneck
from slmcompile.models import bottleneck
from slmcompile.models.merge import METHOD_FILE, load_merged
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.genai import WITH_PLACES
from tests import tiny_model
from tests.families import build

torch = pytest.importorskip("torch")
ir = pytest.importorskip("onnx_ir")

NON_LINEARITIES = ("relu", "gelu", "gelu_new", "silu", "tanh")
BUILT: dict[str, dict[str, Any]] = {
    # The builder rounds √width, by which embeddings are scaled, to two digits.
    "gemma": {"hidden_size": 64},
    # onnxruntime-genai 0.18 wants a cache as long as the window, and rows here are short.
    "gemma2": {"hidden_size": 64, "sliding_window": 16},
    "mistral": {"sliding_window": None},
    # Where the two differ it builds LongRoPE.
    "phi3": {"original_max_position_embeddings": 256},
}
TOKENS = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make_base(tmp_path_factory.mktemp("model"))


def base_of(family: str, llama: Path, folder: Path) -> Path:
    """A base-model folder of a family, with the tokenizer of the tiny Llama."""
    shutil.copytree(llama, folder)
    (folder / "model.safetensors").unlink()
    sizes = {"vocab_size": 320, "head_dim": 16, "max_position_embeddings": 256}
    model = build(family, **{**sizes, **TOKENS, **BUILT.get(family, {})})
    model.save_pretrained(folder)
    shutil.copyfile(llama / "generation_config.json", folder / "generation_config.json")
    return folder


def adapter_of(base: Path, folder: Path, **settings: Any) -> Path:
    """Adapters that have learnt something: no weight of theirs is what it began as."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    bottleneck.attach(model, Bottleneck(**{"style": "houlsby", "reduction_factor": 4, **settings}))
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(parameter.shape, generator=generator) * 0.3
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    folder.mkdir()
    bottleneck.write(model, weights, folder)
    write_json(folder / METHOD_FILE, {"method": "bottleneck"})
    return folder


def lora(base: Path, folder: Path) -> Path:
    """An adapter that merges."""
    return tiny_model.make_adapter(base, folder / "lora")


@pytest.fixture(scope="module")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter_of(llama, tmp_path_factory.mktemp("trained") / "adapter")


def exported(base: Path, adapter: Path, folder: Path, **target: Any) -> tuple[Path, dict[str, Any]]:
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)  # and no scratch folder: a stage makes that when it wants one
    prompt = folder / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    told = CpuTarget(**target)
    rows = tiny_model.make_rows(base)
    return out, export(told, base, adapter, prompt, rows, out, scratch, Silent())


@pytest.fixture(scope="module")
def fp32(
    llama: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    return exported(llama, adapter, tmp_path_factory.mktemp("fp32"), precision="fp32")


@pytest.mark.parametrize("family", sorted(WITH_PLACES))
def test_fp32_logits_are_torchs_in_every_family_whose_graph_is_known(
    llama: Path, tmp_path: Path, family: str
) -> None:
    base = base_of(family, llama, tmp_path / "base")
    kind = NON_LINEARITIES[sorted(WITH_PLACES).index(family) % len(NON_LINEARITIES)]
    trained = adapter_of(base, tmp_path / "adapter", non_linearity=kind)
    _, info = exported(base, trained, tmp_path, precision="fp32")
    assert info["parity"]["max_abs_logit_diff"] < 1e-3
    assert info["parity"]["top1_agreement"] == 1.0


def test_what_a_killed_export_has_left_is_in_nobodys_way(
    llama: Path, adapter: Path, fp32: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    left = tmp_path / "scratch/built/left.onnx"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    out, _ = exported(llama, adapter, tmp_path, precision="fp32")
    assert {path.name for path in out.iterdir()} == {path.name for path in fp32[0].iterdir()}


def test_an_export_without_the_nodes_is_refused(
    llama: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(built: Path, _adapters: Any, out: Path) -> None:
        shutil.copytree(built, out, dirs_exist_ok=True)

    monkeypatch.setattr(graph_adapters, "insert", forgets)
    with pytest.raises(StageFailedError, match="the export agrees with torch on"):
        exported(llama, adapter, tmp_path, precision="fp32")


def test_the_untrained_base_is_another_model(
    llama: Path, fp32: tuple[Path, dict[str, Any]]
) -> None:
    reference = Reference(load_merged(llama, None), tiny_model.make_rows(llama))
    figures = measure(reference, onnx_model.load(fp32[0], 1), print)
    with pytest.raises(StageFailedError):
        require_float(figures, "cpu fp32")


def test_it_answers_with_the_tokens_of_torch(
    llama: Path, adapter: Path, fp32: tuple[Path, dict[str, Any]]
) -> None:
    prompts = [row.prompt_ids for row in tiny_model.make_rows(llama)]
    told = (prompts, 12, 4, lambda _: None)
    expected = torch_model.load(llama, adapter, 1, "fp32").generate(*told)
    base = torch_model.load(llama, None, 1, "fp32").generate(*told)
    found = onnx_model.load(fp32[0], 1).generate(*told)
    assert [answer.ids for answer in found] == [answer.ids for answer in expected]
    assert [answer.ids for answer in found] != [answer.ids for answer in base]


@pytest.mark.parametrize(
    ("target", "mean_kl"),
    [
        ({"precision": "int8"}, 0.05),
        ({"precision": "int4"}, 1.0),
        ({"precision": "int4", "int4_algo_config": "k_quant_mixed", "int4_block_size": 16}, 1.0),
    ],
)
def test_the_adapters_stay_in_fp32_in_a_quantised_graph(
    llama: Path, adapter: Path, tmp_path: Path, target: dict[str, Any], mean_kl: float
) -> None:
    out, info = exported(llama, adapter, tmp_path, **target)
    assert 0 < info["parity"]["mean_kl"] < mean_kl
    graph = ir.load(out / "model.onnx").graph
    ours = [node for node in graph if "adapter/" in node.name]
    kinds = Counter(node.op_type for node in ours)
    # Two layers of two sublayers.
    assert kinds == {"MatMul": 8, "Add": 12, "Relu": 4}
    weights = load_merged(llama, adapter)
    for number, layer in enumerate(weights.model.layers):
        for place, module in (
            ("attn.mh_adapter", layer.self_attn.mh_adapter),
            ("mlp.output_adapter", layer.mlp.output_adapter),
        ):
            name = f"model.layers.{number}.{place}.down.weight"
            stored = graph.initializers[name].const_value
            assert stored.dtype == ir.DataType.FLOAT
            expected = module.down.weight.detach().t().numpy()
            assert (stored.numpy() == expected).all()
    plain, merged = exported(llama, lora(llama, tmp_path), tmp_path / "plain", **target)
    placed = bottleneck.adapters_of(weights)
    beside = 4 * sum(p.numel() for each in placed for p in each.adapter.parameters())
    # As check 29 estimates; the rest are the nodes' own names.
    assert beside < info["weights_bytes"] - merged["weights_bytes"] < beside + 12_000
    others = Counter(node.op_type for node in graph if "adapter/" not in node.name)
    assert others == Counter(node.op_type for node in ir.load(plain / "model.onnx").graph)
    assert others["MatMulNBits"] > 0


def test_only_the_layers_that_have_one_get_nodes(llama: Path, tmp_path: Path) -> None:
    trained = adapter_of(llama, tmp_path / "adapter", style="pfeiffer", leave_out=(0,))
    out, info = exported(llama, trained, tmp_path, precision="fp32")
    assert info["parity"]["top1_agreement"] == 1.0
    names = {node.name for node in ir.load(out / "model.onnx").graph if "adapter/" in node.name}
    assert len(names) == 6
    assert all(name.startswith("/model/layers.1/mlp/output_adapter/") for name in names)


def test_exporting_twice_gives_equal_bytes_and_facts(
    llama: Path, adapter: Path, tmp_path: Path, fp32: tuple[Path, dict[str, Any]]
) -> None:
    again, info = exported(llama, adapter, tmp_path / "a" / "longer" / "path", precision="fp32")
    names = sorted(path.name for path in fp32[0].iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert {n: sha256_file(fp32[0] / n) for n in names} == {
        n: sha256_file(again / n) for n in names
    }
    assert info == fp32[1]
    assert list((again.parent / "scratch").iterdir()) == []
    for path in again.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_a_graph_that_is_built_otherwise_is_refused_and_says_where(
    llama: Path, adapter: Path, tmp_path: Path
) -> None:
    """Names are as they were; what they stand for is not."""
    plain, _ = exported(llama, lora(llama, tmp_path), tmp_path / "plain", precision="fp32")
    placed = bottleneck.adapters_of(load_merged(llama, adapter))

    def refusal(change: Any) -> StageFailedError:
        folder, out = tmp_path / "built", tmp_path / "out"
        shutil.copytree(plain, folder)
        out.mkdir()
        model = ir.load(folder / "model.onnx")
        nodes = {node.name: node for node in model.graph}
        change(model.graph, nodes)
        ir.save(model, folder / "model.onnx")
        with pytest.raises(StageFailedError) as caught:
            graph_adapters.insert(folder, placed, out)
        assert list(out.iterdir()) == []
        shutil.rmtree(folder)
        out.rmdir()
        return caught.value

    def two_readers(_graph: Any, nodes: Any) -> None:
        add = nodes["/model/layers.1/post_attention_layernorm/SkipLayerNorm"]
        nodes["/model/layers.1/mlp/up_proj/MatMul"].replace_input_with(0, add.inputs[1])

    def other_stream(_graph: Any, nodes: Any) -> None:
        add = nodes["/model/layers.1/post_attention_layernorm/SkipLayerNorm"]
        first = nodes["/model/layers.0/post_attention_layernorm/SkipLayerNorm"]
        add.replace_input_with(0, first.outputs[3])

    def no_cache(_graph: Any, nodes: Any) -> None:
        (attention,) = (n for n in nodes.values() if "layers.1/attn/GroupQuery" in n.name)
        attention.replace_input_with(3, None)

    assert "2 nodes read" in refusal(two_readers).what
    assert "layer 1: its attention is not added to what the layer below gave out" in (
        refusal(other_stream).what
    )
    last = refusal(no_cache)
    assert "the ONNX graph has no layer 1" in last.what
    assert last.code == 1


def test_the_graph_that_they_are_put_into_may_be_kept_under_another_name_too(
    llama: Path, adapter: Path, tmp_path: Path
) -> None:
    """Of what is finished DVC's cache, and exports beside it, have hard links."""
    plain, _ = exported(llama, lora(llama, tmp_path), tmp_path / "plain", precision="int4")
    placed = bottleneck.adapters_of(load_merged(llama, adapter))
    found = []
    for name in ("alone", "linked"):
        (tmp_path / name).mkdir()
        graph_adapters.insert(plain, placed, tmp_path / name)
        found.append({p.name: sha256_file(p) for p in (tmp_path / name).iterdir()})
        (tmp_path / f"beside-{name}").hardlink_to(plain / "model.onnx.data")
    assert (plain / "model.onnx.data").stat().st_nlink == 3
    assert found[0] == found[1]
    assert found[0]["model.onnx.data"] == sha256_file(plain / "model.onnx.data")
