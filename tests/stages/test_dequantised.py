"""What an ONNX graph multiplies with comes back into torch, to the number.

Graphs are computed at accuracy level 0, where the products of quantised weights are those of fp32:
at the level that ships the activations are rounded too, which no weights can stand for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.export import genai_builder
from slmcompile.files.artifact import sha256_file
from slmcompile.inference import torch_model
from slmcompile.models.base_model import load_base_model
from slmcompile.models.dequantised import put_into
from slmcompile.models.graph_products import embedding, products
from slmcompile.models.merge import load_merged
from slmcompile.providers.cpu import CpuTarget
from tests import families, tiny_model

torch = pytest.importorskip("torch")
ir = pytest.importorskip("onnx_ir")

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
"""Even numbers of blocks: of an odd one onnxruntime 1.31 quantises none with zero points."""

OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 16},
    "mistral": {"sliding_window": None},
    "phi3": {"original_max_position_embeddings": 256},
}
INT4: dict[str, Any] = {"precision": "int4"}
TARGETS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "int8": {"precision": "int8"},
    "int4": INT4,
    "block16": {**INT4, "int4_block_size": 16},
    # Wider than a row, whose one block then reaches past its end.
    "block128": {**INT4, "int4_block_size": 128},
    "rtn": {**INT4, "int4_algo_config": "rtn"},
    "rtn-asymmetric": {**INT4, "int4_algo_config": "rtn", "int4_is_symmetric": False},
    "k_quant": {**INT4, "int4_algo_config": "k_quant"},
    "k_quant_mixed": {**INT4, "int4_algo_config": "k_quant_mixed"},
    "k_quant_last": {**INT4, "int4_algo_config": "k_quant_last"},
}
CASES = [
    *(("llama", tied, target) for target in TARGETS for tied in (True, False)),
    *((family, None, target) for family in ("phi3", "qwen3", "gemma2") for target in TARGETS),
    *((family, None, "k_quant_mixed") for family in ("mistral", "qwen2", "smollm3", "granite")),
    *((family, None, "int4") for family in ("ernie4_5", "gemma", "hunyuan_v1_dense")),
]
IDS = (np.arange(16 * 12).reshape(16, 12) * 7) % 317 + 3


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool | None], Path]:
    """Makes a base-model folder of a family, once; tied or not, None for as the family is."""
    root = tmp_path_factory.mktemp("bases")
    tokenizer = tiny_model.make_base(root / "tokenizer")

    def base(family: str, tied: bool | None) -> Path:
        folder = root / f"{family}-{tied}"
        if not folder.exists():
            shutil.copytree(tokenizer, folder)
            (folder / "model.safetensors").unlink()
            how = {} if tied is None else {"tie_word_embeddings": tied}
            model = families.build(family, **{**SIZES, **OWN.get(family, {}), **how})
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    if "norm" in name or name.endswith("bias"):
                        weight.add_(0.1 * torch.randn_like(weight))
            model.save_pretrained(folder)
            generation = tokenizer / "generation_config.json"
            shutil.copyfile(generation, folder / "generation_config.json")
        return folder

    return base


@pytest.fixture(scope="module")
def llama(base_of: Callable[[str, bool | None], Path]) -> Path:
    return base_of("llama", True)


@pytest.fixture(scope="module")
def int4(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(llama, "int4", tmp_path_factory.mktemp("int4"))


@pytest.fixture(scope="module")
def int8(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(llama, "int8", tmp_path_factory.mktemp("int8"))


def built(base: Path, target: str, folder: Path) -> Path:
    out = folder / "graph"
    out.mkdir()
    genai_builder.build(CpuTarget(**TARGETS[target]), base, out, folder / "cache")
    return out


def opened(base: Path, over: Path | None = None) -> Any:
    return load_merged(base, None, over)


def in_torch(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(IDS)).logits.float().numpy()


def in_onnx(folder: Path, config: Any) -> Any:
    """Logits of a folder's graph at accuracy level 0."""
    import onnx
    import onnxruntime

    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i = 0
    exact = folder / "exact.onnx"
    onnx.save(graph, exact)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(exact), options, ["CPUExecutionProvider"])
    exact.unlink()
    rows, length = IDS.shape
    empty = np.zeros((rows, config.num_key_value_heads, 0, 16), np.float32)
    given = {each.name: empty for each in session.get_inputs()}
    given.update(input_ids=IDS, attention_mask=np.ones_like(IDS))
    if "position_ids" in given:
        given["position_ids"] = np.tile(np.arange(length), (rows, 1))
    return session.run(["logits"], given)[0]


def is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(("family", "tied", "target"), CASES)
def test_logits_are_the_graphs(
    base_of: Callable[[str, bool | None], Path],
    tmp_path: Path,
    family: str,
    tied: bool | None,
    target: str,
) -> None:
    base = base_of(family, tied)
    folder = built(base, target, tmp_path)
    plain = opened(base)
    model = opened(base, folder)
    expected, found, before = in_onnx(folder, model.config), in_torch(model), in_torch(plain)
    gap, rounding = abs(found - expected).max(), abs(before - expected).max()
    assert gap < 2e-4
    if target == "fp32":
        assert (found == before).all()
    else:
        assert gap < rounding / 1000
    assert is_tied(model) == (is_tied(plain) and target != "int8")
    assert model.config.tie_word_embeddings == is_tied(model)


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen3"])
def test_projections_that_the_graph_has_apart_are_found_too(
    base_of: Callable[[str, bool | None], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    given = genai_builder.extra_options
    monkeypatch.setattr(
        genai_builder, "extra_options", lambda *asked: [*given(*asked), "fuse_qkv=false"]
    )
    base = base_of(family, None)
    folder = built(base, "k_quant_mixed", tmp_path)
    names = {node.name.rpartition("_Q")[0] for node in ir.load(folder / "model.onnx").graph}
    assert "/model/layers.1/attn/v_proj/MatMul" in names
    model = opened(base, folder)
    assert abs(in_torch(model) - in_onnx(folder, model.config)).max() < 2e-4


def test_which_rows_of_which_product_a_module_is(
    base_of: Callable[[str, bool | None], Path], llama: Path, int4: Path, tmp_path: Path
) -> None:
    def of(base: Path, folder: Path) -> dict[str, list[tuple[str, slice, slice]]]:
        linears = {
            name: tuple(module.weight.shape)
            for name, module in opened(base).named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        return {
            name.removeprefix("model.layers.1."): [
                (part.node.outputs[0].name, part.rows, part.features) for part in parts
            ]
            for name, parts in products(ir.load(folder / "model.onnx"), linears).items()
        }

    found = of(llama, int4)
    qkv = "/model/layers.1/attn/qkv_proj/MatMul/output_0"
    assert found["self_attn.q_proj"] == [(qkv, slice(0, 64), slice(0, 64))]
    assert found["self_attn.k_proj"] == [(qkv, slice(64, 96), slice(0, 32))]
    assert found["self_attn.v_proj"] == [(qkv, slice(96, 128), slice(0, 32))]
    assert found["lm_head"] == [("logits", slice(0, 320), slice(0, 320))]
    phi3 = base_of("phi3", None)
    found = of(phi3, built(phi3, "int4", tmp_path))
    assert found["self_attn.qkv_proj"] == [(qkv, slice(0, 128), slice(0, 128))]
    mlp = "/model/layers.1/mlp"
    assert found["mlp.gate_up_proj"] == [
        (f"{mlp}/gate_proj/MatMul/output_0", slice(0, 128), slice(0, 128)),
        (f"{mlp}/up_proj/MatMul/output_0", slice(0, 128), slice(128, 256)),
    ]


def test_a_graph_tells_whether_head_and_embedding_are_one(int4: Path, int8: Path) -> None:
    assert embedding(ir.load(int4 / "model.onnx")).shared
    assert not embedding(ir.load(int8 / "model.onnx")).shared


def test_a_head_of_its_own_stays_so_under_an_adapter_and_on_disk(
    llama: Path, int8: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = opened(llama, int8)
    expected = in_torch(model)
    model.save_pretrained(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert (in_torch(saved) == expected).all()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    assert not is_tied(adapted)
    assert (in_torch(adapted) == expected).all()


def test_a_base_opens_for_training_over_a_graph_and_its_files_stay_as_they_are(
    llama: Path, int4: Path
) -> None:
    before = {path.name: sha256_file(path) for path in llama.iterdir()}
    exact = load_base_model(llama, "fp32", torch.device("cpu"))
    put_into(exact, int4)
    assert (in_torch(exact) == in_torch(opened(llama, int4))).all()
    rounded = load_base_model(llama, "bf16", torch.device("cpu"))
    put_into(rounded, int4)
    weights = dict(exact.named_parameters())
    for name, weight in rounded.named_parameters():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, weights[name].to(torch.bfloat16)), name
    assert before == {path.name: sha256_file(path) for path in llama.iterdir()}


def test_an_adapter_merges_into_the_graphs_weights(llama: Path, int4: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    adapter = tiny_model.make_adapter(llama, tmp_path / "adapter")
    beside = PeftModel.from_pretrained(opened(llama, int4), adapter).eval()
    expected = in_torch(beside)
    assert abs(in_torch(load_merged(llama, adapter, int4)) - expected).max() < 2e-4
    assert abs(in_torch(load_merged(llama, adapter)) - expected).max() > 0.1
    rows = tiny_model.make_rows(llama)
    scored = {
        over: torch_model.load(llama, adapter, 1, "fp32", over).log_likelihood(rows)
        for over in (int4, None)
    }
    merged = torch_model.TorchModel(load_merged(llama, adapter, int4), frozenset({2}))
    assert scored[int4] == merged.log_likelihood(rows)
    assert scored[int4] != scored[None]


def test_a_model_of_its_own_is_over_no_graph(llama: Path, int4: Path) -> None:
    with pytest.raises(StageFailedError, match="is over no ONNX graph"):
        load_merged(llama, llama, int4)


def test_weights_in_links_are_read(llama: Path, int4: Path, tmp_path: Path) -> None:
    """As a stage's output is, where DVC links it to its cache."""
    expected = in_torch(opened(llama, int4))
    for kind, link in (("hard", os.link), ("symbolic", os.symlink)):
        folder = tmp_path / kind
        folder.mkdir()
        for path in int4.iterdir():
            link(path, folder / path.name)
        assert (in_torch(opened(llama, folder)) == expected).all()


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _without_scales(path: Path) -> None:
    graph = ir.load(path)
    gone = next(name for name in graph.graph.initializers if name.endswith("weight_scales"))
    graph.graph.initializers.pop(gone)
    ir.save(graph, path)


def _without_embedding(path: Path) -> None:
    graph = ir.load(path)
    graph.graph.initializers.pop("lm_head.MatMul.weight_Q4")
    ir.save(graph, path)


def _narrow_scales(path: Path) -> None:
    graph = ir.load(path)
    name = next(name for name in graph.graph.initializers if name.endswith("weight_scales"))
    tensor = ir.tensor(np.ones((3, 2), np.float32), name=name)
    graph.graph.initializers[name].const_value = tensor
    ir.save(graph, path)


def _infinite_scales(path: Path) -> None:
    graph = ir.load(path)
    name = next(name for name in graph.graph.initializers if name.endswith("weight_scales"))
    value = graph.graph.initializers[name]
    value.const_value = ir.tensor(np.full(value.shape.numpy(), np.inf, np.float32), name=name)
    ir.save(graph, path)


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("model.onnx.data", _shorter, "ends at byte"),
        ("model.onnx.data", Path.unlink, "no such file"),
        ("model.onnx", _shorter, "not an ONNX graph"),
        ("model.onnx", Path.unlink, "not an ONNX graph"),
        ("model.onnx", _without_scales, "no weights"),
        ("model.onnx", _without_embedding, "no weights"),
        ("model.onnx", _narrow_scales, "holds 6 numbers"),
        ("model.onnx", _infinite_scales, "not finite"),
    ],
)
def test_what_is_damaged_is_refused(
    llama: Path, int4: Path, tmp_path: Path, file: str, damage: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(int4, folder)
    damage(folder / file)
    with pytest.raises(CorruptError, match=told):
        opened(llama, folder)


def _renamed(names: dict[str, str], int4: Path, folder: Path) -> Path:
    """The graph with names of products exchanged."""
    shutil.copytree(int4, folder)
    graph = ir.load(folder / "model.onnx")
    for node in graph.graph:
        for old, new in names.items():
            if old in (node.name or ""):
                node.name = node.name.replace(old, new)
                break
    ir.save(graph, folder / "model.onnx")
    return folder


@pytest.mark.parametrize(
    ("names", "told"),
    [
        # Of the same shape, so that only the weights tell.
        ({"/gate_proj/": "/up_proj/", "/up_proj/": "/gate_proj/"}, "relative error 1"),
        ({"layers.0/": "layers.1/", "layers.1/": "layers.0/"}, "relative error 1"),
        ({"/down_proj/": "/gate_proj/", "/gate_proj/": "/down_proj/"}, "gives 64 features"),
        ({"/o_proj/": "/out_proj/"}, "no product computes model.layers.0.self_attn.o_proj"),
        ({"layers.1/mlp/up_proj": "layers.0/mlp/up_proj"}, "two products are called"),
    ],
)
def test_products_that_are_not_a_modules_are_refused(
    llama: Path, int4: Path, tmp_path: Path, names: dict[str, str], told: str
) -> None:
    with pytest.raises(StageFailedError, match=told):
        opened(llama, _renamed(names, int4, tmp_path / "renamed"))


def test_a_graph_of_another_base_is_refused(
    base_of: Callable[[str, bool | None], Path], llama: Path, int4: Path
) -> None:
    other = load_base_model(llama, "fp32", torch.device("cpu"))
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight.copy_(other.model.layers[0].mlp.down_proj.weight)
    with pytest.raises(StageFailedError, match=r"layers\.1\.mlp\.down_proj: relative error 1"):
        put_into(other, int4)
    with pytest.raises(StageFailedError, match="relative error 1"):
        opened(base_of("phi3", True), int4)
