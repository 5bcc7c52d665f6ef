"""Rules that read shapes: each refutes a recipe and passes one."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slmcompile import api
from slmcompile.base.facts import ModelFacts, read_model_facts, size_in
from slmcompile.checks.registry import Verdict, all_checks
from slmcompile.checks.rules import vocabulary
from slmcompile.checks.rules.disk import Disk, disk_of
from slmcompile.checks.rules.vocabulary import Vocabulary, read_vocabulary
from slmcompile.cli.main import main
from slmcompile.console.errors import Exit
from slmcompile.data.report_facts import DataFacts
from slmcompile.estimate.build_memory import LIBRARIES
from slmcompile.estimate.memory import (
    Rows,
    decoder_of,
    evaluation_memory,
    training_memory,
)
from slmcompile.estimate.peak import predict
from slmcompile.estimate.time import cost_line, cost_of
from slmcompile.estimate.trainable import trainable
from slmcompile.execution.sync import compile_recipe
from slmcompile.facts.architecture import architecture, architecture_of
from slmcompile.facts.context import CheckContext
from slmcompile.facts.gather import context_of
from slmcompile.machine.device import Device
from slmcompile.methods.keys import Train
from slmcompile.providers.cpu import CpuTarget, export_bytes
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Eval
from slmcompile.shapes.interval import Interval
from slmcompile.sources.of_models.random import RandomModel, random_shapes
from slmcompile.state.changes import changes
from tests.projects import make_project
from tests.sections import train_section

SMALL = RandomModel(
    type="random",
    tokenizer_text="x",
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
)
"""The shapes of SmolLM2-135M."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",)))


def context(project: Project, *overrides: str, **facts: Any) -> CheckContext:
    compiled = compile_recipe(project, "tiny", overrides)
    return replace(context_of(project, compiled, changes(project, compiled)), **facts)


def verdict(number: int, given: CheckContext) -> Verdict:
    (found,) = (each for each in all_checks() if each.number == number)
    return found.judge(given)


def rows_report(longest: int, *, train: int = 64) -> DataFacts:
    lengths = {"max": longest, "min": 4, "percentiles": {"p95": longest}}
    return DataFacts(
        {
            "counts": {"train": train, "validation": 8, "test": 8},
            "lengths": {"total": lengths, "answer": lengths, "prompt": lengths},
            "tokens": {"train": {"total": longest * train, "trained": 4 * train}},
        }
    )


def model_facts(folder: Path, **changed: Any) -> ModelFacts:
    shapes = random_shapes(SMALL)
    found = ModelFacts(
        where="models/mine",
        config={"vocab_size": SMALL.vocab_size},
        generation={},
        tokenizer={},
        tensors=shapes,
        dtypes=dict.fromkeys(shapes, "F16"),
        files=(),
        folder=folder,
    )
    return replace(found, **changed)


def tokenizer(folder: Path, size: int, *added: tuple[int, str]) -> Path:
    content = {
        "added_tokens": [{"id": number, "content": text} for number, text in added],
        "model": {
            "vocab": {f"t{number}": number for number in range(size)},
            "merges": [["t", str(number)] for number in range(100)],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


# --- 8: target modules --------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing_is_refuted_with_the_nearest_name(project: Project) -> None:
    found = verdict(8, context(project, "train.lora.target_modules=[q_prj,v_proj]"))
    assert found.outcome == "refuted"
    assert "'q_prj'" in found.evidence
    assert "did you mean 'q_proj'?" in found.mend
    assert "train.lora.target_modules" in found.where


@pytest.mark.parametrize(
    ("pattern", "mend"),
    [
        ("q_prj", "did you mean 'q_proj'?"),
        ("'*'", "write all-linear, or whole names: down_proj"),
        ("'.*_proj'", "write all-linear, or whole names: down_proj"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refuted_once(
    project: Project, pattern: str, mend: str
) -> None:
    given = context(project, f"train.lora.target_modules=[{pattern}]")
    assert verdict(8, given).mend.startswith(mend)
    assert verdict(26, given).outcome == "needs_probe"


def test_a_module_to_save_that_is_not_there_is_refuted(project: Project) -> None:
    found = verdict(8, context(project, "train.lora.modules_to_save=[embed_token]"))
    assert found.outcome == "refuted"
    assert "embed_tokens" in found.mend
    good = verdict(8, context(project, "train.lora.modules_to_save=[embed_tokens]"))
    assert good.outcome == "proved"


def test_coverage_is_shown_by_kind_of_layer_and_said_where_it_is_low(project: Project) -> None:
    found = verdict(8, context(project))
    assert found.outcome == "proved"
    assert "q_proj 2/2" in found.evidence
    assert "100% of 14 linear layers" in found.evidence
    few = verdict(8, context(project, "train.lora.target_modules=[q_proj]"))
    assert few.outcome == "proved"
    assert "14% of 14 linear layers; low coverage" in few.evidence


def test_a_pattern_that_matches_nothing_ends_with_78(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert main(["run", "tiny", "train.lora.target_modules=[q_prj]"]) == Exit.BAD_RECIPE
    assert "'q_prj' matches no module" in capfd.readouterr().err


def test_experts_that_the_modelling_code_renames_are_not_refuted(project: Project) -> None:
    shapes = {**random_shapes(SMALL), "model.layers.0.mlp.experts.0.w1.weight": (8, 8)}
    facts = model_facts(Path(), tensors=shapes, dtypes=dict.fromkeys(shapes, "F32"))
    given = context(project, "train.lora.target_modules=[gate_up_proj]", model=facts)
    assert verdict(8, given).outcome == "needs_probe"


def test_the_built_model_decides_what_its_headers_leave_open(project: Project) -> None:
    """As ``plan --deep`` brings it: names of modules, their classes and shapes."""
    shapes = {**random_shapes(SMALL), "model.layers.0.mlp.experts.0.w1.weight": (8, 8)}
    modules = {
        "model.embed_tokens": ("Embedding", (49152, 576)),
        "model.layers.0.self_attn.q_proj": ("Linear", (576, 576)),
        "model.layers.0.mlp.gate": ("Linear", (4, 576)),
        "lm_head": ("Linear", (49152, 576)),
    }
    facts = model_facts(
        Path(), tensors=shapes, dtypes=dict.fromkeys(shapes, "F32"), modules=modules
    )
    missing = context(project, "train.lora.target_modules=[gate_up_proj]", model=facts)
    assert verdict(8, missing).outcome == "refuted"
    there = verdict(8, context(project, model=facts))
    assert there.evidence == "q_proj 1/1, gate 1/1; 100% of 2 linear layers"


# --- 26: trainable --------------------------------------------------------------------------


def test_a_rank_beyond_the_smallest_dimension_is_refuted(project: Project) -> None:
    found = verdict(26, context(project, "train.lora.r=33"))
    assert found.outcome == "refuted"
    assert "[32, 64]" in found.evidence
    assert "32 or less" in found.mend
    assert verdict(26, context(project, "train.lora.r=32")).outcome == "proved"


def test_an_adapter_is_counted_as_rank_times_both_sides() -> None:
    model = architecture({}, random_shapes(SMALL), dict.fromkeys(random_shapes(SMALL), "F16"))
    assert model.parameters == 134515008
    # What PEFT counts for r = 16 on every linear layer of SmolLM2-135M.
    assert trainable(train_section(), model).parameters == 4884480
    assert trainable(train_section(method="full"), model).parameters == 134515008


@pytest.mark.parametrize(
    ("target", "saved", "key"),
    [
        ("", "embed_tokens", "target_modules"),
        ("q_proj", "layers", "modules_to_save"),
        ("q_proj,gate_proj", "self_attn,mlp", "modules_to_save"),
        ("lm_head", "lm_head", "modules_to_save"),
    ],
)
def test_an_adapter_without_a_layer_is_refuted(
    project: Project, target: str, saved: str, key: str
) -> None:
    """As PEFT does, whatever ``modules_to_save`` trains beside it."""
    overrides = (
        f"train.lora.target_modules=[{target}]",
        f"train.lora.modules_to_save=[{saved}]",
    )
    given = context(project, *overrides)
    found = verdict(8, given)
    assert found.outcome == "refuted"
    assert found.where.endswith(f"train.lora.{key}")
    assert verdict(26, given).outcome == "needs_probe"


@pytest.mark.parametrize(
    ("target", "saved", "count"),
    [
        ("q_proj", "lm_head", 36864),
        ("q_proj", "embed_tokens,lm_head", 69632),
        ("q_proj,lm_head", "embed_tokens", 46080),
        ("lm_head", "", 9216),
        ("q_proj,embed_tokens", "embed_tokens", 36864),
        ("down_proj", "model.layers.0.mlp.down_proj", 11264),
        ("q_proj", "norm", 4416),
    ],
)
def test_trained_weights_are_as_many_as_peft_trains(
    project: Project, target: str, saved: str, count: int
) -> None:
    """What ``attach`` leaves trainable of the tiny model, whose head is tied (peft 0.21)."""
    given = context(
        project, f"train.lora.target_modules=[{target}]", f"train.lora.modules_to_save=[{saved}]"
    )
    model, lora = architecture_of(given), given.recipe.train.lora
    assert model is not None
    assert lora is not None
    adapter = lora.model_copy(update={"r": 16})
    assert trainable(train_section(lora=adapter), model).parameters == count


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("F64", 800), ("I64", 800), ("U32", 400), ("BF16", 200), ("F8_E4M3", 100), ("F4", 50)],
)
def test_stored_bytes_are_those_of_the_dtype(dtype: str, size: int) -> None:
    assert architecture({}, {"a.weight": (10, 10)}, {"a.weight": dtype}).stored_bytes == size


@pytest.mark.parametrize("value", [None, "64", 64.0, True, 0, -1, 2**31, 10**400, [64], {}])
def test_what_is_no_size_is_none(value: object) -> None:
    assert size_in({"hidden_size": value}, "hidden_size") is None
    assert size_in({"hidden_size": 64}, "hidden_size") == 64


# --- 13: vocabulary -------------------------------------------------------------------------


def test_a_token_without_a_row_in_the_embedding_is_refuted(
    project: Project, tmp_path: Path
) -> None:
    folder = tokenizer(tmp_path, 10, (49152, "<late>"))
    found = verdict(13, context(project, model=model_facts(folder)))
    assert found.outcome == "refuted"
    assert "'<late>' has id 49152" in found.evidence
    folder = tokenizer(tmp_path, 10, (49151, "<last>"))
    good = verdict(13, context(project, model=model_facts(folder)))
    assert good.outcome == "proved"


def test_an_embedding_that_is_not_the_configurations_is_refuted(
    project: Project, tmp_path: Path
) -> None:
    """transformers refuses to load it, whatever is trained."""
    folder = tokenizer(tmp_path, 10)
    for config in ({"vocab_size": 49151}, {"text_config": {"vocab_size": 49151}}):
        facts = model_facts(folder, config=config)
        found = verdict(13, context(project, "train=full", model=facts))
        assert found.outcome == "refuted"
        assert "vocab_size 49151, the embedding has 49152 rows" in found.evidence


def test_a_vocabulary_of_too_many_values_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_MOST_COMMAS", 25)
    assert read_vocabulary(tokenizer(tmp_path, 20)) == Vocabulary(20, "t19")
    assert read_vocabulary(tokenizer(tmp_path, 30)) is None


# --- 7: memory ------------------------------------------------------------------------------


def test_a_device_below_the_lower_bound_is_refuted_and_one_above_the_upper_is_proved(
    project: Project,
) -> None:
    for size, outcome in (("0.2", "refuted"), ("64", "proved")):
        found = verdict(7, context(project, f"device.memory_gb={size}"))
        assert found.outcome == outcome
        assert "(stated)" in found.evidence


def test_a_device_within_the_interval_may_not_fit(project: Project) -> None:
    given = context(project, data=rows_report(64))
    memory = predict(given)
    assert memory is not None
    between = int((memory.peak.low + memory.peak.high) / 2)
    found = verdict(7, replace(given, device=Device(between, None, frozenset())))
    assert found.outcome == "needs_probe"
    assert found.stage == "tiny/train"
    assert "may not fit" in found.evidence


WIDE = ("model.source.hidden_size=1024", "model.source.num_hidden_layers=24")
"""Of the tiny model, so that its weights are more than the libraries."""
BESIDE = "+target.cpu-int4.adapters=beside"


def test_building_counts_and_is_told_of_the_stage_that_builds(project: Project) -> None:
    merged = context(project, "target=[cpu-int4]", *WIDE)
    beside = context(project, "target=[cpu-int4]", BESIDE, *WIDE)
    one, other, model = predict(merged), predict(beside), architecture_of(merged)
    assert one is not None
    assert other is not None
    assert model is not None
    # The base is quantised in a stage of its own or, once merged, by the export.
    assert (set(one.quantizing), set(other.quantizing)) == (set(), {"cpu-int4"})
    assert one.exporting["cpu-int4"].low > other.exporting["cpu-int4"].low
    assert other.quantizing["cpu-int4"].low > other.exporting["cpu-int4"].low
    # What is built from, and what comes out; no second copy of what is built from.
    held = other.quantizing["cpu-int4"].low - LIBRARIES.low
    assert 4.5 * model.parameters < held < 8 * model.parameters
    assert "quantising the base" in verdict(7, beside).evidence
    assert "quantising" not in verdict(7, merged).evidence
    assert "exporting" in verdict(7, merged).evidence


def test_what_is_too_large_to_build_is_refuted_before_it_is_trained(project: Project) -> None:
    small = ("train.gradient_checkpointing=true", "train.per_device_train_batch_size=1")
    # Of few and large matrices, of which copies are there while each is quantised.
    large = ("hidden_size=1024", "num_hidden_layers=4", "intermediate_size=16384")
    shapes = (f"model.source.{each}" for each in large)
    given = context(project, "target=[cpu-int8]", *small, *shapes)
    memory = predict(given)
    assert memory is not None
    limit = int(memory.exporting["cpu-int8"].low) - 1
    assert limit > max(memory.training.low, memory.evaluation.low)
    tight = replace(given, device=Device(limit, None, frozenset()))
    found = verdict(7, tight)
    assert found.outcome == "refuted"
    assert "leave out target.cpu-int8" in found.mend
    assert found.where.endswith("target.cpu-int8")
    assert verdict(7, replace(tight, pending=frozenset({"train"}))).outcome != "refuted"


def test_without_the_model_the_base_stage_is_named(project: Project) -> None:
    given = context(project, "model=smollm2-135m")
    for number in (7, 8, 13, 26, 29):
        found = verdict(number, given)
        assert found.outcome == "needs_probe"
        assert found.stage == given.base_stage


def test_too_large_for_the_device_ends_with_69(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert main(["run", "tiny", "device.memory_gb=0.2"]) == Exit.MISSING
    assert "the device has 0.2 GB (stated)" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["bottleneck", "full", "lora", "qlora"])
@pytest.mark.parametrize("longest", [16, 256, 257, 4096])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_interval_is_wider_than_a_half(
    method: Any, longest: int, batch: int, *, checkpointing: bool
) -> None:
    """Where the rows' lengths are known."""
    config = train_section(
        method=method,
        per_device_train_batch_size=batch,
        gradient_checkpointing=checkpointing,
    )
    shapes = random_shapes(SMALL)
    model = architecture(
        {**SMALL.model_dump(), "vocab_size": SMALL.vocab_size}, shapes, dict.fromkeys(shapes, "F16")
    )
    decoder = decoder_of(model)
    assert decoder is not None
    length = Interval(longest, longest)
    rows = Rows(length, Interval(longest / 4, longest / 4), length, 1000, 8)
    interval = training_memory(config, model, decoder, trainable(config, model), rows, 100)
    assert interval.low < interval.high
    assert interval.width <= 1.5


def test_memory_grows_with_batch_length_and_method() -> None:
    shapes = random_shapes(SMALL)
    model = architecture(SMALL.model_dump(), shapes, dict.fromkeys(shapes, "F16"))
    decoder = decoder_of(model)
    assert decoder is not None

    def middle(config: Train, longest: int) -> float:
        length = Interval(longest, longest)
        rows = Rows(length, length, length, 1000, 8)
        found = training_memory(config, model, decoder, trainable(config, model), rows, 100)
        return (found.low + found.high) / 2

    ends = Interval(64, 64)
    config, varied = train_section(precision="bf16"), Rows(ends, ends, ends, 1000, 8, varied=True)
    found = trainable(config, model)
    few, many = (training_memory(config, model, decoder, found, varied, n) for n in (2, 40))
    assert few.low < many.low
    assert few.high == many.high
    short = middle(train_section(), 64)
    assert short < middle(train_section(), 128)
    assert short < middle(train_section(per_device_train_batch_size=16), 64)
    assert short < middle(train_section(method="full"), 64)
    assert middle(train_section(method="qlora"), 8) < middle(train_section(), 8)
    assert middle(train_section(gradient_checkpointing=True), 64) < short
    evaluated = evaluation_memory(
        Eval(), train_section(), model, decoder, Rows(ends, ends, ends, 1000, 8)
    )
    assert evaluated.high < short


# --- 29: disk -------------------------------------------------------------------------------


def test_a_disk_that_the_run_would_fill_is_refuted(project: Project) -> None:
    for free, outcome in ((10**6, "refuted"), (10**9, "proved")):
        given = context(project, device=Device(None, free, frozenset()))
        assert verdict(29, given).outcome == outcome


def test_checkpoints_of_all_weights_are_counted(project: Project) -> None:
    device = Device(None, 6 * 10**9, frozenset())
    lora = context(project, model=model_facts(Path()), device=device)
    assert verdict(29, lora).outcome == "proved"
    full = context(project, "train=full", model=model_facts(Path()), device=device)
    found = verdict(29, full)
    assert found.outcome == "refuted"
    assert "save_total_limit" in found.where


def test_the_copy_of_a_folder_model_is_counted_until_it_is_there(project: Project) -> None:
    """Its headers are read before the base stage has copied it."""
    device = Device(None, 1_100_000_000, frozenset())
    given = context(project, model=model_facts(Path()), device=device)
    assert given.pending is not None
    assert verdict(29, given).outcome == "refuted"
    copied = replace(given, pending=given.pending - {"base"})
    assert verdict(29, copied).outcome == "proved"
    assert verdict(29, replace(given, plan=None, pending=None)).outcome == "proved"


def test_what_will_not_be_written_needs_no_room(project: Project) -> None:
    many = context(
        project,
        "train=full",
        "train.save_total_limit=20",
        model=model_facts(Path()),
        device=Device(None, 2 * 10**9, frozenset()),
    )
    assert verdict(29, replace(many, pending=frozenset({"train", "export"}))).outcome == "refuted"
    exporting = verdict(29, replace(many, pending=frozenset({"export"})))
    assert exporting.outcome == "proved"
    assert "checkpoints 0.0 MB, trained 0.0 MB" in exporting.evidence
    training = verdict(29, replace(many, pending=frozenset({"train"})))
    assert "full-precision copy 0.0 MB, exports 0.0 MB" in training.evidence


def test_a_base_is_copied_in_full_precision_where_it_is_quantised_or_merged(
    project: Project,
) -> None:
    def sizes(*overrides: str, pending: str = "quantize train export") -> Disk:
        given = context(project, "target=[cpu-int4,cpu-fp32]", *overrides)
        model = architecture_of(given)
        assert model is not None
        return disk_of(replace(given, pending=frozenset(pending.split())), model)

    merged, over = sizes(), sizes("train.over=cpu-int4")
    assert (merged.quantized, merged.quantizing) == (0, 0)
    assert merged.copy == over.quantizing > 0
    assert over.copy == 0
    # Bases once more than exports have them, which have the adapter in fp32 too.
    assert over.exports - over.quantized == pytest.approx(2 * over.trained)
    assert over.exports - merged.exports == pytest.approx(2 * over.trained)
    one = sizes("+target.cpu-int4.adapters=beside")
    assert one.copy == one.quantizing == merged.copy
    there = sizes("train.over=cpu-int4", pending="train export")
    assert (there.quantized, there.quantizing) == (0, 0)


def test_adapters_that_are_trained_together_take_their_room_together(project: Project) -> None:
    given = context(project, "target=[cpu-int4,cpu-fp32]")
    model = architecture_of(given)
    assert model is not None
    own, all_ = (
        disk_of(each, model) for each in (given, replace(given, trained_with=(given, given)))
    )
    assert (all_.checkpoints, all_.trained) == (3 * own.checkpoints, 3 * own.trained)
    assert (all_.exports, all_.copy) == (3 * own.exports, own.copy)
    over = context(project, "target=[cpu-int4,cpu-fp32]", "train.over=cpu-int4")
    own, all_ = (disk_of(each, model) for each in (over, replace(over, trained_with=(over, over))))
    assert all_.quantized == own.quantized
    assert all_.exports - own.exports == pytest.approx(2 * 2 * own.trained)


@pytest.mark.parametrize(
    ("precision", "size"), [("fp32", 543855296), ("int8", 270526611), ("int4", 90040428)]
)
def test_an_export_takes_no_less_than_predicted_and_little_more(precision: Any, size: int) -> None:
    """Sizes of the quickstart's three exports of SmolLM2-135M, tokenizer included."""
    shapes = random_shapes(SMALL)
    model = architecture({}, shapes, dict.fromkeys(shapes, "F16"))
    expected = export_bytes(CpuTarget(precision=precision), model)
    assert expected <= size <= 1.1 * expected


# --- 30: size -------------------------------------------------------------------------------


def test_a_head_that_is_stored_although_it_is_tied_counts_once(
    project: Project, tmp_path: Path
) -> None:
    tiny = architecture_of(context(project))
    assert tiny is not None
    shapes = {**tiny.shapes, **{f"{name}.weight": s for name, s in tiny.tied_head.items()}}
    entries = {name: {"dtype": "F32", "shape": shape} for name, shape in shapes.items()}
    header = json.dumps(entries).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for tied, count in ((True, 106_816), (False, 139_584)):
        config = json.dumps({"model_type": "llama", "tie_word_embeddings": tied})
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
        facts = read_model_facts(tmp_path, "models/mine")
        assert facts is not None
        given = context(project, f"model.parameters={count}", model=facts)
        assert verdict(30, given).outcome == "proved"
        model = architecture_of(given)
        assert model is not None
        assert (model.parameters, bool(model.tied_head)) == (count, tied)


# --- cost -----------------------------------------------------------------------------------


def test_cost_counts_steps_tokens_and_operations(project: Project) -> None:
    given = context(project, "train.num_train_epochs=2", data=rows_report(10))
    changes = api.plan("tiny", project=project.root).changes
    cost = cost_of([given], changes)
    assert cost.steps == 16
    assert cost.tokens == 2 * 64 * 10
    # lora: 4·N + 6·P a token, the head at trained tokens.
    linear, adapter, head = 73728, 16 * (2 * (128 + 96 + 96 + 128 + 3 * 192)), 512 * 64
    assert cost.flops == (4 * linear + 6 * adapter) * 1280 + 4 * head * 2 * 64 * 4


def test_cost_counts_what_will_run_alone(project: Project) -> None:
    changes = api.plan("tiny", project=project.root).changes
    given = context(project, data=rows_report(10))
    kept = [
        replace(change, action="unchanged") if change.stage.kind != "export" else change
        for change in changes
    ]
    cost = cost_of([given], kept)
    assert (cost.steps, cost.tokens, cost.flops) == (None, None, None)
    memory = predict(given)
    assert memory is not None
    assert cost.memory == memory.exporting["cpu-fp32"]
    assert cost_line(cost).startswith("Cost: time of export-cpu-fp32 unknown here, peak ")
    assert "; nothing is trained; tiny-llama" in cost_line(cost)
    idle = cost_of([given], [replace(change, action="unchanged") for change in changes])
    assert cost_line(idle).startswith("Cost: nothing of length to run; nothing is trained; ")
    assert cost_of([given], changes).memory is not None


def test_time_is_what_this_machine_measured_and_nothing_else(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    data = rows_report(10)
    first = api.plan("tiny", project=project.root)
    assert first.cost.seconds is None
    assert first.cost.to_json()["seconds"] is None
    names = [change.stage.address for change in first.changes if change.stage.kind != "train"]
    entries: list[dict[str, Any]] = [{"stage": name, "seconds": 1.0} for name in names]
    work = {"tokens": 1600, "total_parameters": 106816 + 7, "trainable_parameters": 7}
    entries.append({"stage": "tiny/train", "seconds": 8.0, **work})
    project.scratch.mkdir(exist_ok=True)
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (project.scratch / "journal.jsonl").write_text(lines, encoding="utf-8")
    given = context(project, "train.num_train_epochs=10", data=data)
    cost = cost_of([given], first.changes)
    assert cost.tokens == 6400
    assert cost.seconds is not None
    assert cost.seconds.low == pytest.approx(len(names) + 8.0)  # all of it start-up
    assert cost.seconds.high == pytest.approx(len(names) + 8.0 * 4)  # none of it
    assert cost.unmeasured == ()
