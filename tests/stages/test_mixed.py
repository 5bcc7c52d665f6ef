"""Weights of 4 bits where that costs least, and of 8 elsewhere: measured, chosen, built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slmcompile.console.errors import BadRecipeError, CorruptError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED
from slmcompile.export.export import export
from slmcompile.export.genai_mixed import require_widths
from slmcompile.export.mixture import Mixture, choose, mixture_of
from slmcompile.export.probe import _KEPT, asked_of, linear_shapes, linears_of, probe
from slmcompile.export.rounding import rounded
from slmcompile.inference import onnx_model
from slmcompile.models.dequantised import put_into
from slmcompile.models.graph_products import embedding, products
from slmcompile.models.graph_weights import open_graph
from slmcompile.models.merge import load_merged
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.mixed import MOST_GROUPS, Group, groups_of
from slmcompile.shapes.blocks import block_of, stored_bytes
from tests import families
from tests.tiny_model import make_base, make_rows

torch = pytest.importorskip("torch")

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
SENSITIVE = "down_proj 2"


def learnt(model: Any, rows: list[Any]) -> None:
    """Trains a model until it knows the rows' answers well."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        for row in rows:
            ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
            optimizer.zero_grad()
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()


def made_sensitive(model: Any, layer: int) -> None:
    """Without another answer in fp32: of every block of ``down_proj`` one column is large."""
    mlp = model.model.layers[layer].mlp
    with torch.no_grad():
        mlp.down_proj.weight[:, ::32] *= 512
        mlp.up_proj.weight[::32] /= 512


def trained(folder: Path, *, sensitive: bool) -> Path:
    """A small tied Llama that has learnt some rows' answers."""
    base = make_base(folder)
    (base / "model.safetensors").unlink()
    torch.manual_seed(3)
    model = families.build("llama", **SIZES, tie_word_embeddings=True)
    learnt(model, make_rows(base)[:6])
    if sensitive:
        made_sensitive(model, 2)
    generation = (base / "generation_config.json").read_bytes()
    model.save_pretrained(base)
    (base / "generation_config.json").write_bytes(generation)
    return base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("llama"), sensitive=True)


@pytest.fixture(scope="module")
def measured(base: Path) -> dict[str, Any]:
    return measure(base)


def measure(base: Path) -> dict[str, Any]:
    rows = make_rows(base)[:6]
    found = probe(load_merged(base, None), rows, 32, Silent())
    return {"rows": len(rows), **found}


def exported(
    base: Path, out: Path, probes: dict[str, Any] | None = None, **target: Any
) -> dict[str, Any]:
    scratch, prompt = out.parent / "scratch", out.parent / "prompt.json"
    out.mkdir(parents=True)
    scratch.mkdir(exist_ok=True)
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    rows = make_rows(base)[:2]
    # A model folder of its own takes the base's place, as all weights that were trained do.
    return export(
        CpuTarget(**target), base, base, prompt, rows, out, scratch, Silent(), probes=probes
    )


def nll(model: Any, rows: list[Any]) -> float:
    found = model.log_likelihood(rows)
    return float(-sum(total for total, _ in found) / sum(count for _, count in found))


# --- what is measured ---------------------------------------------------------------------------


def test_the_group_that_was_made_sensitive_costs_most(base: Path, measured: dict[str, Any]) -> None:
    for measure in ("rise", "divergence"):
        costs = {name: cost[measure] for name, cost in measured["groups"].items()}
        assert max(costs, key=lambda name: costs[name]) == SENSITIVE
        alike = sorted(cost for name, cost in costs.items() if name.startswith("down_proj "))
        assert alike[-1] > 10 * alike[-2]
    # Scaled as it was, the model answers as it did: fp32 is not what costs.
    assert measured["nll"] < 0.5


def test_a_rise_is_that_of_the_weights_that_a_graph_would_hold(
    base: Path, measured: dict[str, Any]
) -> None:
    from slmcompile.inference.torch_model import TorchModel

    model, rows = load_merged(base, None), make_rows(base)[:6]
    weight = linears_of(model)["model.layers.2.mlp.down_proj"].weight.data
    weight.copy_(rounded(weight, 4, 32, measured["algorithm"]))
    found = nll(TorchModel(model, frozenset()), rows) - measured["nll"]
    assert found == pytest.approx(measured["groups"][SENSITIVE]["rise"], abs=1e-6)


def test_the_model_is_given_back_as_it_was_and_equal_work_gives_equal_numbers(
    base: Path, measured: dict[str, Any]
) -> None:
    model, rows = load_merged(base, None), make_rows(base)[:6]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    again = probe(model, rows, 32, Silent())
    assert again == {key: value for key, value in measured.items() if key != "rows"}
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_the_algorithm_is_the_one_that_costs_less_over_all(measured: dict[str, Any]) -> None:
    costs = {name: cost["divergence"] for name, cost in measured["all_narrow"].items()}
    assert set(costs) == {"k_quant", "rtn"}
    assert measured["algorithm"] == min(costs, key=lambda name: costs[name])
    # Each alone moves the model less than all together.
    assert all(0 < cost["divergence"] < max(costs.values()) for cost in measured["groups"].values())


def test_a_divergence_is_that_of_all_tokens_where_the_answers_are(
    base: Path, measured: dict[str, Any]
) -> None:
    model, rows = load_merged(base, None), make_rows(base)[:6]

    def expected() -> Any:
        """One row at a time."""
        found = []
        for row in rows:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].double()
            found.append(logits[torch.tensor(row.labels[1:]) != IGNORED].log_softmax(-1))
        return torch.cat(found)

    before = expected()
    weight = linears_of(model)["model.layers.2.mlp.down_proj"].weight.data
    weight.copy_(rounded(weight, 4, 32, measured["algorithm"]))
    found = float((before.exp() * (before - expected())).sum(-1).mean())
    assert found == pytest.approx(measured["groups"][SENSITIVE]["divergence"], rel=1e-3)


def test_no_more_rows_are_asked_than_what_is_expected_of_can_be_kept(base: Path) -> None:
    rows = make_rows(base)
    answers = [len(row.input_ids) - len(row.prompt_ids) for row in rows]
    for places, count in ((10**6, len(rows)), (sum(answers[:3]), 3), (answers[0] - 1, 1)):
        assert len(asked_of(rows, _KEPT // places)) == count


def test_layers_lie_together_until_there_are_few_enough_groups() -> None:
    shapes = {"lm_head": (640, 64)}
    for layer in range(30):
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"):
            shapes[f"model.layers.{layer}.{name}"] = (64, 64)
        shapes[f"model.layers.{layer}.mlp.down_proj"] = (64, 128)
    groups = groups_of(shapes, 32)
    assert len(groups) == 40 == MOST_GROUPS
    assert sorted(name for group in groups for name in group.modules) == sorted(shapes)
    assert [group.name for group in groups][:4] == [
        "qkv_proj 0-2", "up_proj 0-2", "down_proj 0-2", "qkv_proj 3-4",
    ]  # fmt: skip
    assert groups[-1].name == "head"
    assert sum(group.weights for group in groups) == sum(a * b for a, b in shapes.values())


# --- what is chosen -----------------------------------------------------------------------------


def group(name: str, weights: int) -> Group:
    return Group(name, 0, 0, (name,), weights, weights * 5 // 8, weights * 9 // 8)


def test_what_costs_least_for_a_byte_becomes_narrow_first() -> None:
    groups = [group("a", 800), group("b", 800), group("c", 1600)]
    costs = {"a 0": 0.3, "b 0": 0.1, "c 0": 0.15}
    assert choose(groups, costs, 9) == {"a 0": 8, "b 0": 8, "c 0": 8}
    assert choose(groups, costs, 8) == {"a 0": 8, "b 0": 4, "c 0": 8} | {"b 0": 8, "c 0": 4}
    assert choose(groups, costs, 6) == {"a 0": 8, "b 0": 4, "c 0": 4}
    assert choose(groups, costs, 5) == {"a 0": 4, "b 0": 4, "c 0": 4}
    with pytest.raises(BadRecipeError, match=r"there are 5\.000"):
        choose(groups, costs, 4.99)


def test_room_that_is_left_goes_to_what_costs_most() -> None:
    groups = [group("a", 80), group("b", 800)]
    # The large one has to go, and with it there is room for the small one, which went before.
    assert choose(groups, {"a 0": 0.0, "b 0": 0.5}, 6) == {"a 0": 8, "b 0": 4}


def test_what_is_below_nothing_is_nothing_and_ties_go_by_place() -> None:
    groups = [group("a", 800), group("b", 800)]
    for costs in ({"a 0": -0.2, "b 0": 0.0}, {"a 0": 0.0, "b 0": -0.2}):
        assert choose(groups, costs, 7) == {"a 0": 8, "b 0": 4}


@pytest.mark.parametrize("most", [5.2, 5.9, 6.7, 8.0])
def test_no_more_bits_than_asked_for_and_hardly_fewer(
    base: Path, measured: dict[str, Any], most: float
) -> None:
    groups = groups_of(linear_shapes(load_merged(base, None)), 32)
    target = CpuTarget(precision="mixed", bits_per_weight=most)
    found = mixture_of(target, groups, measured)
    largest = max(group.wide - group.narrow for group in groups if found.chosen[group.name] == 4)
    weights = sum(group.weights for group in groups)
    assert most - 8 * largest / weights < found.bits_per_weight <= most


def test_measurements_of_another_model_are_refused(base: Path, measured: dict[str, Any]) -> None:
    groups = groups_of({"model.layers.0.mlp.up_proj": (64, 64)}, 32)
    with pytest.raises(CorruptError, match="not of this model"):
        mixture_of(CpuTarget(precision="mixed"), groups, measured)


def test_a_wide_row_takes_the_blocks_in_which_it_is_smallest() -> None:
    assert [block_of(width, 8, 32) for width in (1536, 576, 64, 96, 16)] == [128, 64, 64, 32, 32]
    assert block_of(1536, 4, 16) == 16
    assert stored_bytes(10, 96, 4, 32) == 10 * (3 * 16 + 3 * 4 + 2)
    assert stored_bytes(10, 100, 8, 64) == 10 * (2 * 64 + 2 * 4 + 2)


# --- what is built ------------------------------------------------------------------------------


def in_torch(model: Any, ids: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(ids)).logits.numpy()


def exact_logits(folder: Path, base: Path, ids: Any) -> Any:
    """Of a folder's graph without the rounding of activations."""
    import onnx

    other = folder.parent / "exact"
    shutil.copytree(folder, other)
    graph = onnx.load(other / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i = 0
    onnx.save(graph, other / "model.onnx")
    return onnx_model.load(other, 1).logits([list(map(int, row)) for row in ids])


CASES = [
    *(("llama", tied, most) for tied in (True, False) for most in (5.2, 6.5, 12.0)),
    *((family, None, 6.5) for family in ("phi3", "qwen2", "qwen3", "gemma2", "mistral")),
]
OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 16},
    "mistral": {"sliding_window": None},
    "phi3": {"original_max_position_embeddings": 256},
}


@pytest.mark.parametrize(("family", "tied", "most"), CASES)
def test_the_graph_multiplies_with_what_was_chosen_to_the_bit(
    tmp_path: Path, family: str, tied: bool | None, most: float
) -> None:
    how = {} if tied is None else {"tie_word_embeddings": tied}
    base = untrained(family, tmp_path, **OWN.get(family, {}), **how)
    model = load_merged(base, None)
    groups = groups_of(linear_shapes(model), 32)
    probes = {
        "rows": 1, "nll": 0.0, "all_narrow": {}, "algorithm": "k_quant",
        "groups": {group.name: {"divergence": (7 * n) % 5} for n, group in enumerate(groups)},
    }  # fmt: skip
    out = tmp_path / "out"
    info = exported(base, out, probes, precision="mixed", bits_per_weight=most)
    bits = {each["name"]: each["bits"] for each in info["mixture"]["groups"]}
    assert info["mixture"]["bits_per_weight"] <= most
    if most == 12:
        assert set(bits.values()) == {8}
    elif most == 6.5:
        assert set(bits.values()) == {4, 8}
    widths = {name: bits[group.name] for group in groups for name in group.modules}
    expected = load_merged(base, None)
    for name, module in linears_of(expected).items():
        own = widths[name]
        block = block_of(module.in_features, own, 32)
        module.weight.data.copy_(rounded(module.weight.data, own, block, "k_quant"))
    put_into(model, out)
    for name, module in linears_of(model).items():
        assert torch.equal(module.weight, linears_of(expected)[name].weight), name
    assert torch.equal(model.get_input_embeddings().weight, expected.get_input_embeddings().weight)
    ids = (np.arange(2 * 12).reshape(2, 12) * 7) % 317 + 3
    assert abs(exact_logits(out, base, ids) - in_torch(expected, ids)).max() < 2e-4


def untrained(family: str, folder: Path, **sizes: Any) -> Path:
    base = make_base(folder / "base")
    (base / "model.safetensors").unlink()
    torch.manual_seed(5)
    generation = (base / "generation_config.json").read_bytes()
    families.build(family, **{**SIZES, "num_hidden_layers": 2, **sizes}).save_pretrained(base)
    (base / "generation_config.json").write_bytes(generation)
    return base


def test_it_lies_between_4_and_8_bits_in_size_and_in_likelihood(tmp_path: Path) -> None:
    base = trained(tmp_path / "model", sensitive=False)
    rows, measured = make_rows(base)[:6], measure(base)
    algorithm = measured["algorithm"]
    targets: dict[str, dict[str, Any]] = {
        "int4": {"precision": "int4", "int4_algo_config": algorithm, "int4_is_symmetric": False},
        "5.6": {"precision": "mixed", "bits_per_weight": 5.6},
        "12": {"precision": "mixed", "bits_per_weight": 12.0},
        "int8": {"precision": "int8"},
    }
    sizes, nlls = {}, {}
    for name, target in targets.items():
        out = tmp_path / name / "out"
        probes = measured if target["precision"] == "mixed" else None
        sizes[name] = exported(base, out, probes, **target)["weights_bytes"]
        nlls[name] = nll(onnx_model.load(out, 1), rows)
    # Smaller than the builder's own int8, beside which the embedding lies in fp32.
    assert sizes["int4"] < sizes["5.6"] < sizes["12"] < sizes["int8"]
    assert nlls["int4"] - nlls["12"] > 1.5 * (nlls["5.6"] - nlls["12"]) > 0
    assert nlls["12"] == pytest.approx(nlls["int8"], abs=0.01)


def test_the_embedding_is_shared_whatever_the_width_of_the_head(
    base: Path, measured: dict[str, Any], tmp_path: Path
) -> None:
    for most, bits in ((5.2, 4), (12.0, 8)):
        out = tmp_path / str(most) / "out"
        forced = {**measured, "groups": {**measured["groups"], "head": {"divergence": 0.0}}}
        info = exported(base, out, forced, precision="mixed", bits_per_weight=most)
        graph = open_graph(out)
        found = embedding(graph)
        assert found.shared
        assert found.node.attributes["bits"].as_int() == bits
        head = products(graph, {"lm_head": (320, 64)})["lm_head"][0].node
        assert head.attributes["bits"].as_int() == bits
        files = ("model.onnx", "model.onnx.data")
        assert info["weights_bytes"] == sum((out / name).stat().st_size for name in files)


def test_a_builder_that_makes_something_else_is_found_out(
    base: Path, measured: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    exported(base, out, measured, precision="mixed", bits_per_weight=12.0)
    shapes = linear_shapes(load_merged(base, None))
    groups = groups_of(shapes, 32)
    chosen = {group.name: 8 for group in groups} | {SENSITIVE: 4}
    with pytest.raises(StageFailedError, match=r"has \[8\] bits for model.layers.2.mlp.down_proj"):
        require_widths(Mixture("k_quant", 32, groups, chosen), shapes, out)
