"""Checks 1, 18, 21 and 31: keys that are read, options that count, bars that can be met."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slmcompile.checks.rules.keys import leaves
from slmcompile.checks.rules.no_effect import PAIRS
from slmcompile.console.errors import BadRecipeError, Exit
from slmcompile.methods.lora import LoraTrain
from slmcompile.plans.definition import Pipeline
from slmcompile.recipe.project import Project
from tests.loss_files import write_loss
from tests.projects import slmcompile
from tests.unit.checks.judging import context, judged, make, recipe_file


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One for all: what a test writes into it bears a name of its own."""
    found = make(tmp_path_factory.mktemp("project"))
    write_loss(found.root)
    return found


# --- 1: closed schema ------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["tiny", "quickstart"])
def test_every_key_of_a_shipped_recipe_is_read_or_cosmetic(project: Project, recipe: str) -> None:
    found = judged(context(project, recipe=recipe), 1)
    assert found.outcome == "proved"
    assert "all known" in found.evidence


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_every_key_of_every_method_is_read(project: Project, method: str) -> None:
    assert judged(context(project, f"train={method}"), 1).outcome == "proved"


def test_an_unknown_key_is_refused_while_composing(project: Project) -> None:
    with pytest.raises(BadRecipeError, match="unknown key"):
        context(project, "+train.learning_rat=1")


class TrainWithDeadKnob(LoraTrain):
    turbo: bool = True


def test_a_key_that_no_stage_reads_is_found(project: Project) -> None:
    known = context(project)
    train = TrainWithDeadKnob.model_validate(known.recipe.train.model_dump())
    found = judged(known, 1, recipe=known.recipe.model_copy(update={"train": train}))
    assert found.outcome == "refuted"
    assert found.evidence.startswith("train.turbo reaches no stage")
    assert found.code == Exit.BUG


@pytest.mark.parametrize(
    ("stage", "key"),
    [("train", "learning_rate"), ("data", "max_length"), ("answer-torch", "max_new_tokens")],
)
def test_a_key_that_falls_out_of_a_spec_is_found(project: Project, stage: str, key: str) -> None:
    known = context(project)
    assert known.plan

    def without(pipeline: Pipeline) -> Pipeline:
        stages = tuple(
            replace(each, config={k: v for k, v in each.config.items() if k != key})
            if each.name == stage
            else each
            for each in pipeline.stages
        )
        return replace(pipeline, stages=stages)

    shared = tuple(without(pipeline) for pipeline in known.plan.shared)
    plan = replace(known.plan, shared=shared, own=without(known.plan.own))
    found = judged(known, 1, plan=plan)
    assert found.outcome == "refuted"
    assert key in found.evidence


def test_leaves_are_what_a_person_can_write(project: Project) -> None:
    recipe = context(project, "train=full").recipe
    found = dict(leaves(recipe, recipe.model_dump(mode="json")))
    assert found["train.learning_rate"] is False
    assert found["train.save_steps"] is True
    assert found["target.cpu-fp32.precision"] is False
    assert not any(key.startswith("train.lora") for key in found)


# --- 18: options that void each other ----------------------------------------------------------

SPLIT_FILES = [
    "data.source.path=null",
    "data.source.files={train: data/tiny/commands.jsonl, validation: data/tiny/commands.jsonl,"
    " test: data/tiny/commands.jsonl}",
]

SEVERAL = """\
defaults: [tiny, _self_]
data:
  source: null
  sources:
    - {name: a, source: {type: file, path: data/tiny/commands.jsonl}}
"""
VOIDED_OF_SEVERAL = {
    "data.sources.0.source.delimiter": ["++data.sources.0.source.delimiter=tab"],
    "data.sources.0.source.encoding": [
        "++data.sources.0.source.encoding=cp1252", "++data.sources.0.source.format=parquet",
    ],
}  # fmt: skip

VOIDED = {
    "train.num_train_epochs": ["train.num_train_epochs=3", "train.max_steps=10"],
    "train.warmup_ratio": ["train.warmup_ratio=0.1", "train.lr_scheduler_type=constant"],
    "train.lr_scheduler_type": [
        "train.lr_scheduler_type=constant_with_warmup", "train.warmup_ratio=0",
    ],
    "train.group_by_length": [
        "train.group_by_length=true", "train.per_device_train_batch_size=1",
    ],
    "train.eval_steps": ["train.eval_steps=100", "train.max_steps=10"],
    "train.save_steps": ["train.save_steps=100", "train.max_steps=10"],
    "train.load_best_model_at_end": [
        "train.load_best_model_at_end=true", "train.max_steps=10", "train.eval_steps=10",
    ],
    "train.metric_for_best_model": [
        "train.metric_for_best_model=accuracy", "train.load_best_model_at_end=false",
    ],
    "train.early_stopping_threshold": ["train.early_stopping_threshold=0.1"],
    "train.eval_limit": ["train.eval_limit=5"],
    "train.lora.target_modules": [
        "train.lora.target_modules=[q_proj,o_proj]", "train.lora.modules_to_save=[q_proj]",
    ],
    "train.lora.loraplus_lr_ratio": ["++train.lora.loraplus_lr_ratio=1"],
    "train.loss.class_weights": ["train.loss.class_weights={on: 1}"],
    "train.loss.sees": [
        "train.loss={type: python, file: losses/mine.py, name: Together, sees: batch}",
        "train.per_device_train_batch_size=1",
    ],
    "data.split.validation": [*SPLIT_FILES, "data.split.validation=0.2"],
    "data.split.test": [*SPLIT_FILES, "data.split.test=0.2"],
    "data.split.strategy": [*SPLIT_FILES, "data.split.strategy=random"],
    "data.source.delimiter": ["data.source.delimiter=tab"],
    "data.source.encoding": ["data.source.encoding=cp1252", "data.source.format=parquet"],
    "data.normalize_labels": ["data.normalize_labels=[space]", "data.task=generation"],
    "data.split.by": ["data.split.strategy=random", "data.split.by=label"],
    "data.seed": [*SPLIT_FILES, "data.seed=3"],
    "eval.json_schema": ["++eval.json_schema=schemas/answer.json"],
    "target.cpu-fp32.int4_algo_config": ["target.cpu-fp32.int4_algo_config=rtn"],
    "target.cpu-fp32.int4_block_size": ["target.cpu-fp32.int4_block_size=64"],
    "target.cpu-fp32.int4_is_symmetric": ["target.cpu-fp32.int4_is_symmetric=false"],
    "target.cpu-fp32.bits_per_weight": ["target.cpu-fp32.bits_per_weight=5.0"],
    "track.project": ["track.project=mine"],
    "track.mode": ["track.mode=online"],
    "track.tags": ["track.tags=[a]"],
    "gates": ["gates=[{metric: accuracy, min: 0.5}, {metric: accuracy, min: 0.6}]"],
}  # fmt: skip


@pytest.mark.parametrize("option", VOIDED)
def test_a_stated_option_that_another_voids_is_refuted(project: Project, option: str) -> None:
    found = judged(context(project, *VOIDED[option]), 18)
    assert found.outcome == "refuted"
    assert f": {option}" in found.where
    assert found.where.startswith("override ")


@pytest.mark.parametrize("option", VOIDED_OF_SEVERAL)
def test_so_is_one_of_a_source_among_several(project: Project, option: str) -> None:
    name = recipe_file(project, SEVERAL, "several")
    found = judged(context(project, *VOIDED_OF_SEVERAL[option], recipe=name), 18)
    assert found.outcome == "refuted"
    assert f": {option}" in found.where


def test_a_seed_that_picks_the_measured_rows_has_its_effect(project: Project) -> None:
    known = context(project, *VOIDED["data.seed"], "eval.limit=20")
    assert judged(known, 18).outcome == "proved"


def test_every_row_of_the_table_has_its_test() -> None:
    rows = {
        f"{pair.section}.{pair.option}".strip(".")
        .replace("sources.*", "sources.0")
        .replace("*", "cpu-fp32")
        for pair in PAIRS
    }
    assert rows == {*VOIDED, *VOIDED_OF_SEVERAL}


@pytest.mark.parametrize("recipe", ["tiny", "quickstart"])
def test_shipped_recipes_void_nothing(project: Project, recipe: str) -> None:
    assert judged(context(project, recipe=recipe), 18).outcome == "proved"


def test_an_override_goes_past_what_a_file_says(project: Project) -> None:
    """``num_train_epochs`` of the group and of the recipe; a trial run is no contradiction."""
    assert judged(context(project, "train.max_steps=10"), 18).outcome == "proved"
    name = recipe_file(project, "defaults: [tiny, _self_]\ntrain: {num_train_epochs: 2}\n")
    assert judged(context(project, "train.max_steps=10", recipe=name), 18).outcome == "proved"


def test_an_option_chosen_by_an_override_goes_past_the_recipe(project: Project) -> None:
    (project.conf / "train" / "quick.yaml").write_text(
        "defaults: [tiny, _self_]\nmax_steps: 3\n", encoding="utf-8"
    )
    name = recipe_file(project, "defaults: [tiny, _self_]\ntrain: {num_train_epochs: 2}\n", "two")
    assert judged(context(project, "train=quick", recipe=name), 18).outcome == "proved"
    both = context(project, "train=quick", "train.num_train_epochs=2", recipe=name)
    assert judged(both, 18).outcome == "refuted"


def test_a_recipe_goes_past_its_group_and_not_past_itself(project: Project) -> None:
    past = recipe_file(project, "defaults: [tiny, _self_]\ntrain: {max_steps: 30}\n", "past")
    assert judged(context(project, recipe=past), 18).outcome == "proved"
    itself = recipe_file(
        project,
        "defaults: [tiny, _self_]\ntrain:\n  max_steps: 30\n  num_train_epochs: 2\n",
        "itself",
    )
    found = judged(context(project, recipe=itself), 18)
    assert found.outcome == "refuted"
    assert found.where == "recipes/itself.yaml:4: train.num_train_epochs"


def test_a_layer_saved_whole_leaves_those_of_its_name_their_adapters(project: Project) -> None:
    def adapted(target: str, saved: str) -> str:
        names = (f"target_modules=[q_proj,{target}]", f"modules_to_save=[{saved}]")
        return judged(context(project, *(f"train.lora.{name}" for name in names)), 18).outcome

    layer = "model.layers.0.mlp.down_proj"
    assert adapted("down_proj", layer) == "proved"
    assert adapted(layer, "down_proj") == "refuted"


def test_one_group_file_that_contradicts_itself_is_refuted(project: Project) -> None:
    (project.conf / "train" / "mine.yaml").write_text(
        "max_steps: 30\nnum_train_epochs: 2\n", encoding="utf-8"
    )
    found = judged(context(project, "train=mine"), 18)
    assert found.where == "conf/train/mine.yaml:2: train.num_train_epochs"


def test_a_voided_option_stops_a_run_with_exit_78(project: Project) -> None:
    done = slmcompile(
        project.root, "run", "tiny", "train.max_steps=5", "train.num_train_epochs=2", check=False
    )
    assert done.returncode == Exit.BAD_RECIPE
    assert "max_steps alone says how long training is" in done.stderr
    assert not (project.root / "pipelines").exists()


# --- 21: gates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "key", "why"),
    [
        ("metric: perplexity, min: 2", "min", "lower perplexity is better"),
        ("metric: accuracy, max: 0.9", "max", "higher accuracy is better"),
        ("metric: exact_match, min: 60", "min", "nothing passes"),
        ("metric: exact_match, min: 0", "min", "nothing fails"),
        ("metric: perplexity, max: 0.5", "max", "nothing passes"),
        ("metric: f1_macro, artifact: cpu-fp32, max_drop: 3", "max_drop", "three points are 0.03"),
    ],
)
def test_a_bar_that_decides_nothing_is_refuted(
    project: Project, gate: str, key: str, why: str
) -> None:
    found = judged(context(project, f"gates=[{{{gate}}}]"), 21)
    assert found.outcome == "refuted"
    assert why in f"{found.evidence} {found.mend}"
    assert found.where.endswith(f"gates.0.{key}")


@pytest.mark.parametrize(
    "gate",
    [
        "metric: perplexity, max: 4",
        "metric: accuracy, min: 0.9",
        "metric: perplexity, artifact: cpu-fp32, max_drop: 2",
        "metric: exact_match, artifact: cpu-fp32, max_drop: 0.03",
    ],
)
def test_a_bar_in_the_metrics_own_direction_is_proved(project: Project, gate: str) -> None:
    found = judged(context(project, f"gates=[{{{gate}}}]"), 21)
    assert found.outcome == "proved"
    assert "is better" in found.evidence


def test_a_gate_on_what_no_stage_measures_is_refuted(project: Project) -> None:
    known = context(project, "gates=[{metric: accuracy, min: 0.9}]")
    assert known.plan
    stages = tuple(stage for stage in known.plan.own.stages if stage.name != "answer-torch")
    plan = replace(known.plan, own=replace(known.plan.own, stages=stages))
    assert judged(known, 21, plan=plan).evidence == "no stage measures accuracy of torch"


# --- 31: usual range -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.learning_rate=0.1"],
        ["train.learning_rate=1e-7"],
        ["train=full", "train.learning_rate=5e-3"],
        ["train.lora.lora_alpha=1000"],
        ["train.lora.lora_alpha=1"],
        ["train.lora.use_rslora=true", "train.lora.lora_alpha=128"],
    ],
)
def test_an_unusual_value_is_refuted(project: Project, overrides: list[str]) -> None:
    found = judged(context(project, *overrides), 31)
    assert found.outcome == "refuted"
    assert found.where.startswith("override ")


def test_a_warning_leaves_a_plan_with_exit_0(project: Project) -> None:
    done = slmcompile(project.root, "plan", "tiny", "train.learning_rate=0.1")
    assert "! usual-range: override" in done.stdout
    assert "Checks: 1 warned" in done.stdout


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train=full"],
        ["train=qlora"],
        ["train.lora.r=64", "train.lora.lora_alpha=16"],
        ["train.lora.use_rslora=true"],
    ],
)
def test_usual_values_are_proved(project: Project, overrides: list[str]) -> None:
    found = judged(context(project, *overrides), 31)
    assert found.outcome == "proved"
    assert ("alpha" in found.evidence) == (overrides != ["train=full"])
