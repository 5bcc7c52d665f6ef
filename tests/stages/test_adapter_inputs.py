"""Adapters beside a built graph: the base to the bit without one, PEFT's numbers with one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError, StageFailedError
from slmcompile.export.adapter_inputs import graft
from slmcompile.export.genai_builder import build
from slmcompile.files.artifact import sha256_file
from slmcompile.inference import onnx_model
from slmcompile.methods.lora import Lora
from slmcompile.models import adapter as peft_adapter
from slmcompile.models.adapter_file import write_adapter_file
from slmcompile.models.adapter_layout import LAYOUT_FILE, read_layout
from slmcompile.models.dequantised import put_into
from slmcompile.models.low_rank import CONFIG_FILE, WEIGHTS_FILE, read_low_rank
from slmcompile.providers.cpu import CpuTarget
from slmcompile.shapes.target_modules import leaf
from tests.family_folders import make_family
from tests.stages.tiny_training import make_tokenizer

FAMILIES = ("Llama", "Qwen2", "Qwen3", "Phi3", "Gemma2")
IDS = [[5, 60, 7, 81, 9, 110, 300], [11, 12, 130, 14, 150, 16, 2]]
LAYER = "model.layers.0"
HEAD_SIZE = 16

LORAS: Mapping[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8},
    "patterns": {
        "r": 3,
        "lora_alpha": 5,
        "rank_pattern": {"k_proj": 7, f"{LAYER}.self_attn.k_proj": 1, "down_proj": 2},
        "alpha_pattern": {"v_proj": 1, "layers.1.self_attn.v_proj": 11.5},
    },
    "rslora": {
        "r": 6,
        "use_rslora": True,
        "lora_alpha": 3,
        "target_modules": ("k_proj", "v_proj", "up_proj", "down_proj"),
        "rank_pattern": {"v_proj": 2},
        "exclude_modules": ("layers.1.mlp.up_proj",),
    },
    "pissa": {"r": 2, "lora_alpha": 4, "init_lora_weights": "pissa"},
    "pissa-rslora": {
        "r": 2,
        "lora_alpha": 4,
        "init_lora_weights": "pissa",
        "use_rslora": True,
        "alpha_pattern": {"o_proj": 3},
    },
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def bases(root: Path) -> dict[str, Path]:
    tokenizer = make_tokenizer()
    return {family: make_family(family, root / family / "base", tokenizer) for family in FAMILIES}


@pytest.fixture(scope="module")
def llama(bases: dict[str, Path]) -> Path:
    return bases["Llama"]


def opened(base: Path) -> Any:
    found: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return found.eval()


def trained(base: Path, folder: Path, **lora: Any) -> Path:
    """An adapter folder as training writes it; no weight of it is what it began as."""
    torch.manual_seed(1)
    model = peft_adapter.attach(opened(base), Lora(**lora))
    generator = torch.Generator().manual_seed(len(folder.name))
    weights = {
        name: weight.detach() + 0.2 * torch.randn(weight.shape, generator=generator)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    folder.mkdir(parents=True)
    peft_adapter.write_adapter(model, weights, folder)
    return folder


@pytest.fixture(scope="module")
def adapters(llama: Path, root: Path) -> dict[str, Path]:
    return {name: trained(llama, root / "adapters" / name, **lora) for name, lora in LORAS.items()}


def linears(base: Path) -> dict[str, tuple[int, int]]:
    named = opened(base).named_modules()
    return {n: tuple(m.weight.shape) for n, m in named if isinstance(m, torch.nn.Linear)}


def built(base: Path, precision: str = "fp32") -> Path:
    out = base.parent / precision
    if not out.exists():
        out.mkdir()
        build(CpuTarget(precision=precision), base, out, base.parent / "cache")  # type: ignore[arg-type]
    return out


def grafted(base: Path, out: Path, *adapters: Path, precision: str = "fp32", **given: Any) -> Path:
    """The base's graph with places for these adapters, and a file for each beside it."""
    low_ranks = {folder.name: read_low_rank(folder) for folder in adapters}
    adapted = {module for each in low_ranks.values() for module in each}
    out.mkdir(parents=True)
    layout = graft(built(base, precision), linears(base), adapted, out, **given)
    for name, low_rank in low_ranks.items():
        write_adapter_file(low_rank, layout, out / f"{name}.onnx_adapter")
    return out


def logits(folder: Path, adapter: str | None = None) -> Any:
    chosen = None if adapter is None else folder / f"{adapter}.onnx_adapter"
    return onnx_model.load(folder, adapter=chosen).logits(IDS)


def in_torch(base: Path, adapter: Path | None = None, over: Path | None = None) -> Any:
    from peft import PeftModel

    model = opened(base)
    if over is not None:
        put_into(model, over)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
    with torch.inference_mode():
        return model(torch.tensor(IDS)).logits.numpy()


@pytest.mark.parametrize("name", LORAS)
def test_matrices_are_what_peft_merges(name: str, llama: Path, adapters: dict[str, Path]) -> None:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    model = PeftModel.from_pretrained(opened(llama), adapters[name])
    wanted = {
        module.removeprefix("base_model.model."): layer.get_delta_weight("default").detach()
        for module, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }
    found = read_low_rank(adapters[name])
    assert set(found) == set(wanted)
    for module, low_rank in found.items():
        assert np.abs(low_rank.up @ low_rank.down - wanted[module].numpy()).max() < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_without_an_adapter_it_is_the_base_to_the_bit(
    precision: str, llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    plain = built(llama, precision)
    folder = grafted(llama, tmp_path / "out", adapters["plain"], precision=precision)
    assert np.array_equal(logits(folder), logits(plain))
    assert not np.array_equal(logits(folder, "plain"), logits(plain))
    assert sha256_file(folder / "model.onnx.data") == sha256_file(plain / "model.onnx.data")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["plain", "rslora"])
def test_an_adapter_answers_as_in_torch(
    family: str, name: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    """Biases (Qwen 2), norms between (Qwen 3), what torch packs (Phi-3), caps (Gemma 2)."""
    base, lora = bases[family], LORAS[name]
    if family == "Phi3" and name == "rslora":
        lora = {"r": 3, "use_rslora": True, "target_modules": ("gate_up_proj", "o_proj")}
    adapter = trained(base, tmp_path / "adapter", **lora)
    folder = grafted(base, tmp_path / "out", adapter)
    assert np.array_equal(logits(folder), logits(built(base)))
    wanted, alone = in_torch(base, adapter), in_torch(base)
    assert np.abs(wanted - alone).max() > 0.1
    assert np.abs(logits(folder, "adapter") - wanted).max() <= 1e-4


@pytest.mark.parametrize(
    ("family", "precision"), [("Llama", "int4"), ("Qwen2", "int8"), ("Phi3", "int4")]
)
def test_an_adapter_answers_as_in_torch_over_the_quantised_base(
    family: str, precision: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    """At accuracy level 0, where a quantised product is that of its weights in fp32."""
    base = bases[family]
    adapter = trained(base, tmp_path / "adapter", r=4, lora_alpha=8)
    folder = grafted(base, tmp_path / "out", adapter, precision=precision)
    exact(folder)
    wanted = in_torch(base, adapter, over=built(base, precision))
    assert np.abs(wanted - in_torch(base, adapter)).max() > 0.01
    assert np.abs(logits(folder, "adapter") - wanted).max() <= 1e-3


def exact(folder: Path) -> None:
    """Sets accuracy level 0."""
    import onnx

    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i = 0
    onnx.save(graph, folder / "model.onnx")


def test_adapters_of_other_ranks_and_modules_share_one_graph(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = grafted(llama, tmp_path / "out", *adapters.values())
    base = onnx_model.load(folder)
    opened_once = {name: base.with_adapter(folder / f"{name}.onnx_adapter") for name in adapters}
    for name in (*adapters, *reversed(adapters)):
        found = opened_once[name].logits(IDS)
        assert np.abs(found - in_torch(llama, adapters[name])).max() <= 1e-4
    assert np.array_equal(base.logits(IDS), logits(built(llama)))
    again = opened_once["plain"].with_adapter(None)
    assert np.array_equal(again.logits(IDS), base.logits(IDS))


def test_prompts_of_an_open_model_s_next_adapter_begin_as_that_one_s(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """One may have been trained behind a token that a chat template of another writes itself."""
    folder = grafted(llama, tmp_path / "out", adapters["plain"], adapters["rslora"])
    (folder / "prompt").mkdir()
    begins = {"plain": {"prefix_ids": [1]}, "rslora": {"control_tokens": {"<|im_end|>": 2}}}
    for name, prompt in begins.items():
        (folder / f"prompt/{name}.json").write_text(json.dumps(prompt), encoding="utf-8")
    bare = onnx_model.load(folder).encode("on")
    one = onnx_model.load(folder, adapter=folder / "plain.onnx_adapter")
    two = one.with_adapter(folder / "rslora.onnx_adapter")
    assert (one.encode("on"), two.encode("on")) == ([1, *bare], bare)
    assert (one.controls.ids, two.controls.ids) == ({}, {"<|im_end|>": 2})
    assert one.with_adapter(None).encode("on") == bare
    for content in ("", "[]", '{"prefix_ids": 5}', '{"control_tokens": {"<s>": []}}'):
        (folder / "prompt/rslora.json").write_text(content, encoding="utf-8")
        with pytest.raises(CorruptError, match=r"prompt/rslora\.json: unreadable"):
            one.with_adapter(folder / "rslora.onnx_adapter")


def test_what_reads_one_value_shares_one_matrix_and_what_it_adds_to_stays_apart(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    layout = read_layout(grafted(llama, tmp_path / "out", adapters["plain"], adapters["rslora"]))
    found = [
        ([leaf(module) for module in down.modules], [leaf(up.module) for up in down.ups])
        for down in layout.downs
    ]
    joined = (["q_proj", "k_proj", "v_proj"], ["gate_proj", "up_proj"])
    expected = [joined[0], ["o_proj"], joined[1], ["down_proj"]] * 2
    assert found == [(modules, modules) for modules in expected]
    values = layout.values(read_low_rank(adapters["rslora"]))
    (down,) = (each for each in layout.downs[:1])
    # Of k and v alone, of ranks 6 and 2: no rank of one is another's, and q takes no room.
    assert values[down.name].shape == (64, 8)
    assert values[down.ranks or ""].tolist() == [0, 6, 2]
    assert [values[up.name].shape[0] for up in down.ups] == [0, 6, 2]


@pytest.mark.parametrize("modules", [("q_proj",), ("k_proj",), ("q_proj", "v_proj")])
def test_rows_of_a_packed_product_may_have_no_adapter(
    modules: tuple[str, ...], llama: Path, tmp_path: Path
) -> None:
    adapter = trained(llama, tmp_path / "adapter", r=3, target_modules=modules)
    folder = grafted(llama, tmp_path / "out", adapter)
    assert np.abs(logits(folder, "adapter") - in_torch(llama, adapter)).max() <= 1e-4


def test_the_head_may_have_one(llama: Path, tmp_path: Path) -> None:
    adapter = trained(llama, tmp_path / "adapter", r=3, target_modules=("lm_head", "up_proj"))
    folder = grafted(llama, tmp_path / "out", adapter)
    assert np.array_equal(logits(folder), logits(built(llama)))
    assert np.abs(logits(folder, "adapter") - in_torch(llama, adapter)).max() <= 1e-4


def test_one_adapter_may_be_what_the_graph_has_by_itself(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    both = (adapters["plain"], adapters["rslora"])
    free = grafted(llama, tmp_path / "frei – für alle", *both, precision="int4")
    given = read_low_rank(adapters["plain"])
    folder = grafted(llama, tmp_path / "out", *both, precision="int4", default=given)
    assert np.array_equal(logits(folder), logits(free, "plain"))
    # Nothing of the default is left where another is set, which lacks modules of it.
    assert np.array_equal(logits(folder, "rslora"), logits(free, "rslora"))


def test_any_session_opens_the_graph(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    import onnxruntime

    given = read_low_rank(adapters["plain"])
    folder = grafted(llama, tmp_path / "out", adapters["plain"], default=given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    ids = np.asarray(IDS)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    for each in session.get_inputs():
        if each.name.startswith("past"):
            feeds[each.name] = np.zeros((len(ids), each.shape[1], 0, HEAD_SIZE), np.float32)
    (found,) = session.run(["logits"], feeds)
    assert np.abs(found - in_torch(llama, adapters["plain"])).max() <= 1e-4


def test_every_way_to_answer_has_the_adapter(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = grafted(llama, tmp_path / "out", adapters["plain"])
    chosen = folder / "plain.onnx_adapter"
    base, model = onnx_model.load(folder), onnx_model.load(folder, adapter=chosen)
    streamed = list(model.stream(IDS[0], 6))
    (answer,) = model.generate([IDS[0]], 6, 1, lambda _: None)
    assert streamed[: len(answer.ids)] == answer.ids
    assert list(base.stream(IDS[0], 6)) != streamed
    text = [*IDS[0], *answer.ids]
    following = onnx_model.load(folder, adapter=chosen).logits([text])[0].argmax(axis=-1)
    assert answer.ids == following[len(IDS[0]) - 1 : -1].tolist()
    assert model.decode_speed(IDS[0], 4) > 0


def test_equal_adapters_give_equal_bytes(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = grafted(llama, tmp_path / "out", adapters["plain"])
    low_rank = read_low_rank(adapters["plain"])
    again = {name: copy.deepcopy(low_rank[name]) for name in reversed(low_rank)}
    write_adapter_file(again, read_layout(folder), tmp_path / "again")
    assert sha256_file(tmp_path / "again") == sha256_file(folder / "plain.onnx_adapter")


def test_what_cannot_be_written_is_said(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    layout = read_layout(grafted(llama, tmp_path / "out", adapters["plain"]))
    path = tmp_path / "nowhere" / "plain.onnx_adapter"
    with pytest.raises(MissingError, match=r"nowhere/plain\.onnx_adapter: onnxruntime cannot"):
        write_adapter_file(read_low_rank(adapters["plain"]), layout, path)


def test_a_damaged_adapter_is_refused(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = grafted(llama, tmp_path / "out", adapters["plain"])
    path = folder / "plain.onnx_adapter"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\0" * len(whole)):
        path.write_bytes(content)
        with pytest.raises(CorruptError, match=r"plain\.onnx_adapter: damaged"):
            onnx_model.load(folder, adapter=path)
    path.unlink()
    with pytest.raises(CorruptError, match="no such adapter"):
        onnx_model.load(folder, adapter=path)


def test_an_adapter_of_another_graph_is_refused(
    llama: Path, bases: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    all_of_it = grafted(llama, tmp_path / "all", adapters["plain"])
    one = trained(llama, tmp_path / "one", r=3, target_modules=("o_proj",))
    some = grafted(llama, tmp_path / "some", one)
    with pytest.raises(BadRecipeError, match="made for another graph: it has adapter"):
        onnx_model.load(some, adapter=all_of_it / "plain.onnx_adapter")
    with pytest.raises(BadRecipeError, match="made for another graph: it lacks adapter"):
        onnx_model.load(all_of_it, adapter=some / "one.onnx_adapter")
    with pytest.raises(BadRecipeError, match="takes no adapters"):
        onnx_model.load(built(llama), adapter=all_of_it / "plain.onnx_adapter")
    with pytest.raises(BadRecipeError, match=r"weights for .*, and the graph has a place for none"):
        write_adapter_file(read_low_rank(adapters["plain"]), read_layout(some), tmp_path / "x")
    wider = make_family("Llama", tmp_path / "wider" / "base", make_tokenizer(), hidden_size=128)
    other = trained(wider, tmp_path / "other", **LORAS["plain"])
    with pytest.raises(BadRecipeError, match="the graph has a place for one of"):
        write_adapter_file(read_low_rank(other), read_layout(all_of_it), tmp_path / "x")
    grown = grafted(wider, tmp_path / "grown", other)
    with pytest.raises(BadRecipeError, match=r"is \[128, 12\], and the graph takes \[64, 12\]"):
        onnx_model.load(all_of_it, adapter=grown / "other.onnx_adapter")


def test_a_damaged_layout_is_refused(
    llama: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = grafted(llama, tmp_path / "out", adapters["plain"])
    whole = json.loads((folder / LAYOUT_FILE).read_text())
    newer = json.dumps({**whole, "format_version": "2.0"})
    for content in ("", "[]", "{}", '{"format_version": "1.0"}', newer):
        (folder / LAYOUT_FILE).write_text(content)
        with pytest.raises(CorruptError, match=f"{LAYOUT_FILE}: (unreadable|of version 2.0)"):
            onnx_model.load(folder, adapter=folder / "plain.onnx_adapter")


def test_damaged_files_of_an_adapter_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = trained(llama, tmp_path / "adapter", r=3)
    weights, config = folder / WEIGHTS_FILE, folder / CONFIG_FILE
    whole, settings = weights.read_bytes(), json.loads(config.read_text())
    for content in (b"", whole[:-9], whole[:40]):
        weights.write_bytes(content)
        with pytest.raises(CorruptError, match=f"{WEIGHTS_FILE}: unreadable"):
            read_low_rank(folder)
    weights.unlink()
    with pytest.raises(CorruptError, match=f"{WEIGHTS_FILE}: it is missing"):
        read_low_rank(folder)
    weights.write_bytes(whole)
    config.write_text(json.dumps({**settings, "r": 4}))
    with pytest.raises(CorruptError, match="no two matrices of rank 4"):
        read_low_rank(folder)
    for text in ("", "[]", "{}", json.dumps({**settings, "peft_type": "IA3"})):
        config.write_text(text)
        with pytest.raises(CorruptError, match=CONFIG_FILE):
            read_low_rank(folder)


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({"use_dora": True}, "with DoRA"),
        ({"modules_to_save": ("norm",)}, "with modules_to_save"),
        ({"target_modules": ("embed_tokens", "q_proj")}, "with the tensor .*lora_embedding_A"),
    ],
)
def test_what_is_more_than_low_rank_is_refused(
    lora: dict[str, Any], told: str, llama: Path, tmp_path: Path
) -> None:
    folder = trained(llama, tmp_path / "adapter", **lora)
    with pytest.raises(StageFailedError, match=f"{told}.* cannot stand beside its base"):
        read_low_rank(folder)


def test_weights_that_are_not_finite_are_refused(llama: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = trained(llama, tmp_path / "adapter", r=3)
    weights = load_file(folder / WEIGHTS_FILE)
    weights[f"base_model.model.{LAYER}.mlp.up_proj.lora_B.weight"][5, 1] = np.inf
    save_file(weights, folder / WEIGHTS_FILE)
    with pytest.raises(StageFailedError, match=f"{LAYER}.mlp.up_proj are not finite"):
        read_low_rank(folder)


def test_a_large_adapter_is_read_where_freed_memory_goes_back_at_once() -> None:
    """As stages have it, in a process of its own: reading what is gone would end this one."""
    done = subprocess.run(
        [sys.executable, "-c", _LARGE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "fits\n"), done.stderr[-500:]


_LARGE = """
import tempfile
from pathlib import Path
from slmcompile.machine.process import GIVEN_BACK, prepare_to_compute
prepare_to_compute()
import numpy as np
from slmcompile.models.adapter_file import require_fits, write_adapter_file
from slmcompile.models.adapter_layout import AdapterLayout, DownInput, UpInput
from slmcompile.models.low_rank import LowRank

wide, modules = 2048, [f"module{number}" for number in range(30)]
layout = AdapterLayout(tuple(
    DownInput(f"{m}.down", wide, (m,), f"{m}.ranks", (UpInput(f"{m}.up", m, (0, 16), 0, 16),))
    for m in modules
))
adapter = {m: LowRank(np.ones((16, wide), "f4"), np.ones((16, 16), "f4")) for m in modules}
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "one.onnx_adapter"
    write_adapter_file(adapter, layout, path)
    assert path.stat().st_size > GIVEN_BACK
    for _ in range(5):
        require_fits(layout, path)
print("fits")
"""
