"""Checks 9, 10, 11, 12, 19, 20, 24 and 25: the plan, the model's family and the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from slmcompile.checks.judge import probes
from slmcompile.console.errors import BadRecipeError, Exit
from slmcompile.facts.context import CheckContext
from slmcompile.files.artifact import read_manifest, write_manifest
from slmcompile.machine.device import Device
from slmcompile.plans.definition import Plan, Stage
from slmcompile.providers.genai import ARCHITECTURES
from slmcompile.recipe.project import Project
from slmcompile.state.scratch import scratch_folder, work_fingerprint
from tests.tiny_tokenizer import make_tokenizer
from tests.unit.checks.judging import (
    context,
    data_facts,
    judged,
    make,
    model_facts,
    recipe_file,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One for all: what a test writes into it bears a name of its own."""
    return make(tmp_path_factory.mktemp("project"))


def with_stages(known: CheckContext, change: Callable[[Stage], Stage]) -> Plan:
    """The plan with every stage changed."""
    assert known.plan
    shared = tuple(
        replace(pipeline, stages=tuple(change(stage) for stage in pipeline.stages))
        for pipeline in known.plan.shared
    )
    own = replace(known.plan.own, stages=tuple(change(stage) for stage in known.plan.own.stages))
    return replace(known.plan, shared=shared, own=own)


# --- 9: native precision ---------------------------------------------------------------------

OLD, NEW = (
    Device(None, None, frozenset(flags.split()))
    for flags in ("sse4_2 avx2", "avx2 avx512f avx512_bf16")
)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["train.precision=bf16"], "train.precision"),
        (["train=qlora"], "train.precision"),
        (
            ["train=qlora", "train.precision=fp32",
             "train.quantization.bnb_4bit_compute_dtype=bfloat16"],
            "train.quantization.bnb_4bit_compute_dtype",
        ),
    ],
)  # fmt: skip
def test_bf16_is_warned_of_where_the_cpu_emulates_it(
    project: Project, overrides: list[str], key: str
) -> None:
    known = context(project, *overrides)
    found = judged(known, 9, device=OLD)
    assert found.outcome == "refuted"
    assert found.where.endswith(f": {key}")
    assert "avx512_bf16" in found.evidence
    assert judged(known, 9, device=NEW).outcome == "proved"


def test_fp32_is_native_everywhere(project: Project) -> None:
    for device in (OLD, NEW, Device(None, None, frozenset())):
        assert judged(context(project), 9, device=device).outcome == "proved"


def test_a_cpu_that_says_nothing_of_itself_decides_nothing(project: Project) -> None:
    silent = Device(None, None, frozenset())
    found = judged(context(project, "train.precision=bf16"), 9, device=silent)
    assert (found.outcome, found.stage) == ("needs_probe", "tiny/train")
    assert "does not list" in found.evidence


# --- 10: examples isolated -------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma3_text", "use_bidirectional_attention": True},
        {"model_type": "gemma3", "text_config": {"use_bidirectional_attention": "all"}},
        {"model_type": "roberta"},
        {"model_type": "bart", "is_encoder_decoder": True},
    ],
)
def test_attention_that_looks_ahead_is_refuted(project: Project, config: dict[str, Any]) -> None:
    found = judged(context(project), 10, model=model_facts(**config))
    assert found.outcome == "refuted"
    assert found.where.endswith("model.source")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "gemma3_text", "use_bidirectional_attention": False},
        {"model_type": "bert", "is_decoder": True},
    ],
)
def test_causal_attention_isolates_rows(project: Project, config: dict[str, Any]) -> None:
    assert judged(context(project), 10, model=model_facts(**config)).outcome == "proved"


def test_what_needs_the_model_waits_for_it(project: Project) -> None:
    known = context(project, recipe="quickstart")
    for number in (10, 12):
        found = judged(known, number)
        assert (found.outcome, found.stage) == ("needs_probe", known.base_stage)


# --- 11: merge order -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "words"),
    [("lora", "merged into the base in fp32"), ("qlora", "4-bit base"), ("full", "nothing to")],
)
def test_every_method_merges_before_it_quantises(project: Project, method: str, words: str) -> None:
    found = judged(context(project, f"train={method}"), 11)
    assert found.outcome == "proved"
    assert words in found.evidence


def test_a_quantised_base_is_refuted(project: Project) -> None:
    facts = model_facts(quantization_config={"quant_method": "awq"})
    found = judged(context(project), 11, model=facts)
    assert found.outcome == "refuted"
    assert found.where.endswith("model.source")
    # The check stage, which knows no plan, judges that much of it.
    assert 11 in {check.number for check in probes()}
    assert judged(context(project), 11, model=facts, plan=None).outcome == "refuted"
    assert judged(context(project), 11, model=model_facts(), plan=None).outcome == "proved"


def test_an_export_of_an_export_is_refuted(project: Project) -> None:
    known = context(project, "target=[cpu-int4,cpu-fp32]")

    def chained(stage: Stage) -> Stage:
        if stage.name != "export-cpu-int4":
            return stage
        inputs = {**stage.input_stages, "graph": "tiny/export-cpu-fp32"}
        return replace(stage, input_stages=inputs)

    found = judged(known, 11, plan=with_stages(known, chained))
    assert found.evidence == "tiny/export-cpu-int4 reads what another export has quantised"


@pytest.mark.parametrize(
    ("stage", "role", "evidence"),
    [
        (
            "export-cpu-int4",
            "over",
            "export-cpu-int4 is over the fetched base, what is trained over",
        ),
        ("answer-torch", "over", "answer-torch is over the fetched base, what is trained over"),
        ("train", "over", "export-cpu-fp32 is over quantize-cpu-int4"),
        ("export-cpu-int4", "quantized", "export-cpu-int4 merges what was trained over"),
        ("quantize-cpu-fp32", "over", "export-cpu-fp32 ships quantize-cpu-fp32"),
    ],
)
def test_an_artifact_of_other_weights_than_were_trained_over_is_refuted(
    project: Project, stage: str, role: str, evidence: str
) -> None:
    known = context(project, "target=[cpu-int4,cpu-fp32]", "train.over=cpu-int4")
    found = judged(known, 11)
    assert found.outcome == "proved"
    assert "the base quantised first, the adapter trained over it" in found.evidence

    def without(each: Stage) -> Stage:
        if each.name != stage:
            return each
        read = {key: made for key, made in each.input_stages.items() if key != role}
        return replace(each, input_stages=read)

    found = judged(known, 11, plan=with_stages(known, without))
    assert found.outcome == "refuted"
    assert re.sub(r"(tiny|[a-z0-9-]+-[0-9a-f]{8})/", "", found.evidence).startswith(evidence)


# --- 12: exportable --------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["olmo2", "gpt2", "mamba"])
def test_a_model_that_the_exporter_refuses_is_refuted_before_training(
    project: Project, family: str
) -> None:
    found = judged(context(project), 12, model=model_facts(model_type=family))
    assert found.outcome == "refuted"
    assert found.evidence == f"onnxruntime-genai 0.18 cannot export the architecture {family!r}"


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gemma3_text"])
def test_a_model_that_the_exporter_knows_is_proved(project: Project, family: str) -> None:
    found = judged(context(project), 12, model=model_facts(model_type=family))
    assert found.outcome == "proved"
    assert "a lora adapter, merged, as cpu fp32" in found.evidence


@pytest.mark.parametrize(
    ("target", "config", "said"),
    [
        ("cpu-fp32", {"head_dim": 24}, "takes heads of a multiple of 16, and the model's have 24"),
        ("cpu-int4", {"rope_parameters": {"rope_type": "yarn"}}, "not the model's rotation (yarn)"),
        ("web-int8", {"rope_scaling": {"type": "linear"}}, "not the model's rotation (linear)"),
        ("gguf-q8-0", {"hidden_act": "gelu"}, "llama.cpp's llama has no hidden_act 'gelu'"),
        (
            "gguf-q8-0",
            {"sliding_window": 4, "max_position_embeddings": 64},
            "llama.cpp's llama has no attention in a window of 4",
        ),
    ],
)
def test_a_model_that_a_target_would_compute_otherwise_is_refuted_with_the_targets_line(
    project: Project, target: str, config: dict[str, Any], said: str
) -> None:
    tensors = {"model.embed_tokens.weight": (512, 64)}
    facts = replace(
        model_facts(model_type="llama", **config), tensors=tensors,
        dtypes=dict.fromkeys(tensors, "F32"),
    )  # fmt: skip
    found = judged(context(project, f"target=[{target}]"), 12, model=facts)
    assert found.outcome == "refuted"
    assert said in found.evidence
    assert found.where.endswith(f": target.{target}.execution_provider")
    assert re.match(r"(conf|recipes)/.*\.yaml:\d+: |.*command line", found.where), found.where
    assert found.mend == f"choose another target.{target}.execution_provider, or another model"


def test_a_tokenizer_that_llama_cpp_would_split_otherwise_is_refuted_before_training(
    project: Project, tmp_path: Path
) -> None:
    known = context(project, "target=[gguf-q8-0,cpu-fp32]")
    folder = make_tokenizer(tmp_path / "base")
    facts = replace(model_facts(model_type="llama"), folder=folder)
    assert judged(known, 12, model=facts).outcome == "proved"
    told = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    told["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    (folder / "tokenizer.json").write_text(json.dumps(told), "utf-8")
    found = judged(known, 12, model=facts)
    assert found.outcome == "refuted"
    assert "llama.cpp has no name for how the model's tokenizer splits" in found.evidence
    assert found.where.endswith("target.gguf-q8-0.execution_provider")
    for damaged in ('{"model": 3}', '{"model": {"type": "BPE"}, "pre_tokenizer": [1]}', "[", "{}"):
        (folder / "tokenizer.json").write_text(damaged, "utf-8")
        assert judged(known, 12, model=facts).outcome in {"proved", "refuted"}


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.over=cpu-int4", "train.over"),
        ("+target.cpu-int4.adapters=beside", "target.cpu-int4.adapters"),
    ],
)
def test_a_base_whose_modules_are_not_found_in_its_graph_has_nothing_beside_it(
    project: Project, override: str, key: str
) -> None:
    known = context(project, "target=[cpu-int4,cpu-fp32]", override)
    found = judged(known, 12, model=model_facts(model_type="nemotron"))
    assert found.outcome == "refuted"
    assert "no adapter stands beside a base of 'nemotron'" in found.evidence
    assert found.where.endswith(key)
    found = judged(known, 12, model=model_facts(model_type="qwen3"))
    assert found.outcome == "proved"
    assert ("merged for the others" in found.evidence) == (key != "train.over")
    merged = context(project, "target=[cpu-int4,cpu-fp32]")
    assert judged(merged, 12, model=model_facts(model_type="nemotron")).outcome == "proved"


@pytest.mark.parametrize(
    ("overrides", "outcome"),
    [
        (("int4_algo_config=k_quant",), "refuted"),
        (("int4_is_symmetric=false",), "refuted"),
        ((), "proved"),
        (("int4_algo_config=k_quant", "int4_block_size=32"), "proved"),
    ],
)
def test_zero_points_of_an_odd_number_of_blocks_are_refused(
    project: Project, overrides: tuple[str, ...], outcome: str
) -> None:
    given = ("int4_block_size=64", *overrides)
    last = {each.partition("=")[0]: f"target.cpu-int4.{each}" for each in given}
    found = judged(context(project, "target=[cpu-int4]", *last.values()), 12)
    assert found.outcome == outcome
    if outcome == "refuted":
        assert "is 64 wide, 1 block of 64" in found.evidence
        assert found.where.endswith("target.cpu-int4.int4_block_size")


@pytest.mark.parametrize(
    ("overrides", "said", "key"),
    [
        (["target.cpu-mixed.bits_per_weight=5.0"], "has 5.125 a weight", "bits_per_weight"),
        (["target.cpu-mixed.int4_block_size=64"], "is 64 wide, 1 block of 64", "int4_block_size"),
        (["+target.cpu-mixed.adapters=beside"], "it stands beside them", "precision"),
        (["train.over=cpu-mixed"], "it stands beside them", "precision"),
        (["train=bottleneck"], "merges into no weights", "precision"),
    ],
)
def test_weights_of_both_widths_are_refused_where_they_cannot_be_measured_or_be_that_small(
    project: Project, overrides: list[str], said: str, key: str
) -> None:
    found = judged(context(project, "target=[cpu-mixed]", *overrides), 12)
    assert found.outcome == "refuted"
    assert said in found.evidence
    assert found.where.endswith(f"target.cpu-mixed.{key}")


def test_weights_of_both_widths_need_a_family_whose_nodes_are_known(project: Project) -> None:
    known = context(project, "target=[cpu-mixed]")
    assert judged(known, 12).outcome == "proved"
    found = judged(known, 12, model=model_facts(model_type="nemotron"))
    assert found.outcome == "refuted"
    assert "of 'nemotron'" in found.evidence


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("target.cpu-fp32.precision=fp16", "must be 'auto', 'fp32', 'int8', 'int4' or 'mixed'"),
        ("target.cpu-fp32.execution_provider=dml", "must be 'auto', 'fp16' or 'int4'"),
        ("target.cpu-fp32.execution_provider=dmx", "must be 'cpu', 'cuda'"),
    ],
)
def test_a_provider_or_a_precision_that_it_does_not_have_is_refused_while_composing(
    project: Project, override: str, said: str
) -> None:
    with pytest.raises(BadRecipeError, match=said):
        context(project, override)


def test_the_table_of_architectures_is_that_of_the_installed_packages() -> None:
    mapping = re.search(
        r"MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict\((.*?)\n\)",
        source("transformers", "models/auto/modeling_auto.py"),
        re.DOTALL,
    )
    assert mapping
    classes = dict(re.findall(r'\("([^"]+)", "([^"]+)"\)', mapping.group(1)))
    builder = source("onnxruntime_genai", "models/builder.py")
    known = set(re.findall(r'config\.architectures\[0\] == "([^"]+)"', builder))
    assert {key: name for key, name in classes.items() if name in known} == ARCHITECTURES


def source(package: str, path: str) -> str:
    """A package's file, without importing it."""
    spec = find_spec(package)
    assert spec
    assert spec.origin
    return (Path(spec.origin).parent / path).read_text(encoding="utf-8")


# --- 19: stage key ---------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [[], ["train=qlora"], ["train=full", "target=[cpu-int4]"]])
def test_every_stage_key_is_complete(project: Project, overrides: list[str]) -> None:
    assert judged(context(project, *overrides), 19).outcome == "proved"


BROKEN: dict[str, Callable[[Stage], Stage]] = {
    "the packages that it computes with": lambda stage: replace(stage, packages={}),
    "its input base": lambda stage: replace(
        stage,
        input_stages={r: a for r, a in stage.input_stages.items() if r != "base"},
    ),
    "the bytes of data/other.jsonl": lambda stage: replace(
        stage, files=(*stage.files, "data/other.jsonl")
    ),
    "what the data stage makes": lambda stage: replace(
        stage,
        inputs={r: p for r, p in stage.inputs.items() if r != "data"},
        input_stages={r: a for r, a in stage.input_stages.items() if r != "data"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_key_with_a_gap_is_refuted(project: Project, what: str) -> None:
    known = context(project)
    change = BROKEN[what]
    plan = with_stages(known, lambda s: change(s) if s.name == "train" else s)
    found = judged(known, 19, plan=plan)
    assert found.evidence == f"tiny/train: its key does not cover {what}"


# --- 20: steps that count --------------------------------------------------------------------


def test_one_step_of_warm_up_alone_is_refuted(project: Project) -> None:
    """Its learning rate is zero: the run ends well and the adapter is still nothing."""
    found = judged(context(project, "train.max_steps=1"), 20)
    assert found.outcome == "refuted"
    assert "never leaves zero" in found.evidence
    slow = judged(context(project, "train.max_steps=10", "train.warmup_ratio=0.95"), 20)
    assert slow.evidence.endswith("10 of 10 steps: the learning rate never reaches its peak")


@pytest.mark.parametrize("override", ["train.warmup_ratio=0", "train.lr_scheduler_type=constant"])
def test_one_step_without_warm_up_is_proved(project: Project, override: str) -> None:
    known = context(project, "train.max_steps=1", override)
    assert judged(known, 20).evidence == "1 step, 0 of warm-up, 1 validated"


def test_rows_decide_where_epochs_do_not(project: Project) -> None:
    known = context(project, "train.num_train_epochs=1", "train.warmup_ratio=0.9")
    found = judged(known, 20)
    assert (found.outcome, found.stage) == ("needs_probe", known.data_stage)
    assert judged(known, 20, data=data_facts(train=8)).outcome == "refuted"
    assert judged(known, 20, data=data_facts(train=800)).outcome == "proved"
    # As in the check stage, which has no plan.
    assert judged(known, 20, data=data_facts(train=8), plan=None).outcome == "refuted"


def test_five_epochs_need_no_rows(project: Project) -> None:
    assert judged(context(project), 20).evidence.startswith("at least 5 steps")


def test_no_rows_are_bad_data(project: Project) -> None:
    assert judged(context(project), 20, data=data_facts(train=0)).code == Exit.BAD_DATA


@pytest.mark.parametrize("key", ["eval_steps", "save_steps"])
def test_a_cadence_beyond_the_last_step_is_refuted(project: Project, key: str) -> None:
    name = recipe_file(
        project, f"defaults: [tiny, _self_]\ntrain: {{{key}: 5000}}\n", key.replace("_", "-")
    )
    found = judged(context(project, recipe=name), 20)
    assert found.outcome == "refuted"
    assert f"train.{key}=5000 is never reached" in found.evidence
    # A short trial of it is no contradiction.
    trial = context(project, "train.num_train_epochs=0.1", "train.warmup_ratio=0", recipe=name)
    assert judged(trial, 20).outcome == "proved"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_of_csv_counts(project: Project, end: str) -> None:
    lines = ["text,label", *(f"say {number},on" for number in range(30))]
    (project.root / "data" / "lines.csv").write_text(end.join(lines), encoding="utf-8", newline="")
    rows = "data: {source: {type: file, path: data/lines.csv}}\n"
    train = "num_train_epochs: 1, per_device_train_batch_size: 1, warmup_ratio: 0"
    for steps, outcome in ((31, "proved"), (32, "refuted")):
        text = f"defaults: [tiny, _self_]\n{rows}train: {{{train}, save_steps: {steps}}}\n"
        name = recipe_file(project, text, f"lines-{ord(end[0])}-{len(end)}-{steps}")
        assert judged(context(project, recipe=name), 20).outcome == outcome


def test_a_line_of_conversations_may_make_many_examples(project: Project) -> None:
    (project.root / "data" / "talk.jsonl").write_text("{}\n" * 8, encoding="utf-8")
    text = (
        "defaults: [model: tiny-llama, train: tiny, eval: text, target: [cpu-fp32], _self_]\n"
        "data: {name: talk, task: generation, source: {type: file, path: data/talk.jsonl},"
        " template: {type: TYPE}}\ntrain: {save_steps: 5000, warmup_ratio: 0}\n"
    )
    outcomes = {
        kind: judged(
            context(project, recipe=recipe_file(project, text.replace("TYPE", more), kind)), 20
        ).outcome
        for kind, more in (("messages", "messages"), ("chat", "chat, user: u, assistant: a"))
    }
    assert outcomes == {"messages": "proved", "chat": "refuted"}


def test_a_groups_cadence_is_not_held_against_a_small_file(project: Project) -> None:
    """``eval_steps`` of the group is 20; the last step is validated whatever it is."""
    known = context(project, "train.per_device_train_batch_size=1000")
    assert judged(known, 20).outcome == "proved"


# --- 24: resume ------------------------------------------------------------------------------


@pytest.fixture
def begun(project: Project) -> tuple[CheckContext, str]:
    """Base and data are there, so that what training will call its work is known."""
    known = replace(context(project), model=model_facts(), data=data_facts(train=9))
    assert known.plan
    train = next(stage for stage in known.plan.stages() if stage.kind == "train")
    manifests = {}
    for role, path in train.inputs.items():
        folder = project.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_text(role, encoding="utf-8")
        write_manifest(folder, role, {})
        manifests[role] = read_manifest(folder)
    return known, work_fingerprint(train.spec(), manifests, {})


def checkpoint(project: Project, fingerprint: str, identity: str) -> Path:
    folder = scratch_folder(project, fingerprint) / "step-00000010"
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, "checkpoint", {"identity": identity, "step": 10})
    return folder


def test_a_checkpoint_of_other_work_is_refuted(
    project: Project, begun: tuple[CheckContext, str]
) -> None:
    known, fingerprint = begun
    folder = checkpoint(project, fingerprint, "f" * 64)
    found = judged(known, 24)
    assert found.outcome == "refuted"
    assert project.shown(folder) in found.evidence


def test_a_checkpoint_of_the_same_work_is_proved(
    project: Project, begun: tuple[CheckContext, str]
) -> None:
    known, fingerprint = begun
    checkpoint(project, fingerprint, fingerprint)
    found = judged(known, 24)
    assert found.outcome == "proved"
    assert found.evidence.startswith("goes on from step-00000010")


def test_checkpoints_wait_for_the_inputs(project: Project, begun: tuple[CheckContext, str]) -> None:
    known, fingerprint = begun
    checkpoint(project, fingerprint, fingerprint)
    assert judged(known, 24, data=None).stage == "tiny/train"


def test_without_checkpoints_training_starts_at_step_0(tmp_path: Path) -> None:
    assert judged(context(make(tmp_path)), 24).evidence.endswith("starts at step 0")


# --- 25: one base ----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "words"), [("lora", "one adapter"), ("full", "no adapter")])
def test_all_stages_read_one_base(project: Project, method: str, words: str) -> None:
    found = judged(context(project, f"train={method}"), 25)
    assert found.outcome == "proved"
    assert found.evidence.startswith(words)


def test_two_bases_are_refuted(project: Project) -> None:
    known = context(project)

    def other(stage: Stage) -> Stage:
        if stage.name != "train":
            return stage
        return replace(stage, input_stages={**stage.input_stages, "base": "base-other/base"})

    found = judged(known, 25, plan=with_stages(known, other))
    assert found.evidence.startswith("stages read 2 base models")
