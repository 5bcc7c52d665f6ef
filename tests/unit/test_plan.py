"""A plan is pure data: equal recipes give equal bytes and every key moves what it should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from slmcompile.console.errors import BadDataError, BadRecipeError, RefusedError
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.plans.canonical import canonical_json, digest
from slmcompile.plans.definition import Plan, stage_name
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Recipe
from slmcompile.state.emit import generated_files
from tests.projects import REPOSITORY, make_project

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "onnx",
    "onnxruntime",
    "wandb",
    "dvc",
    "huggingface_hub",
    "numpy",
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve()))


def test_planning_imports_nothing_heavy(project: Project) -> None:
    code = (
        "import sys, slmcompile\n"
        "slmcompile.plan('quickstart')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, text=True, capture_output=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_planning_writes_nothing(project: Project) -> None:
    import slmcompile

    before = sorted(path for path in project.root.rglob("*"))
    slmcompile.plan("tiny", project=project.root)
    assert sorted(path for path in project.root.rglob("*")) == before


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_same_recipe_gives_the_same_bytes_wherever_and_however(
    project: Project, seed: str
) -> None:
    """Another hash seed, folder, locale and time zone."""
    shutil.copyfile(REPOSITORY / "recipes/quickstart.yaml", project.recipes / "quickstart.yaml")
    code = (
        "import sys, json\n"
        "from slmcompile.api import compile\n"
        "from slmcompile.state.emit import generated_files\n"
        "print(json.dumps(generated_files(compile('quickstart'))))"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env=environment,
        text=True,
        capture_output=True,
        check=True,
    )
    here = generated_files(compile_recipe(Project(REPOSITORY), "quickstart", []))
    assert json.loads(done.stdout) == here


def test_key_order_in_a_file_does_not_matter(project: Project) -> None:
    for name, body in (("one", "seed: 3\n  save_steps: 9"), ("two", "save_steps: 9\n  seed: 3")):
        text = f"defaults: [tiny, _self_]\ntrain:\n  {body}\n"
        (project.recipes / f"{name}.yaml").write_text(text, encoding="utf-8")
    one, two = (compile_recipe(project, name, []) for name in ("one", "two"))
    differ = {
        a.kind
        for a, b in zip(one.stages(), two.stages(), strict=True)
        if one.fingerprints()[a.address] != two.fingerprints()[b.address]
    }
    assert differ == {"report", "gate"}  # the report names its recipe


def moved(project: Project, *overrides: str, given: tuple[str, ...] = ()) -> set[str]:
    """Kinds of stages whose fingerprint another value moves."""
    before = compile_recipe(project, "quickstart", given)
    after = compile_recipe(project, "quickstart", [*given, *overrides])
    old, new = before.fingerprints().values(), set(after.fingerprints().values())
    kinds = [stage.kind for stage in before.stages()]
    return {kind for kind, value in zip(kinds, old, strict=True) if value not in new}


def test_an_evaluation_key_moves_no_training(project: Project) -> None:
    assert moved(project, "eval.max_new_tokens=5") == {
        "check", "answer", "score", "report", "gate",
    }  # fmt: skip


def test_a_metric_or_how_labels_are_read_asks_nobody_again(project: Project) -> None:
    assert moved(project, "eval.metrics=[accuracy]", given=("gates=[]",)) == {
        "check", "score", "report", "gate",
    }  # fmt: skip
    # The rows are read anew, and with them everything; but of the label alone nothing is decoded.
    plan = compile_recipe(project, "quickstart", ())
    for stage in plan.of("answer"):
        assert not {"metrics", "task", "label", "label_steps"} & stage.config.keys()


def test_bits_per_byte_bring_the_tokenizer_to_score_and_move_nothing_else(project: Project) -> None:
    asked = "eval.metrics=[exact_match,accuracy,f1_macro,perplexity,bits_per_byte]"
    assert moved(project, asked) == {"check", "score", "report", "gate"}
    plans = (
        compile_recipe(project, "quickstart", ()),
        compile_recipe(project, "quickstart", [asked]),
    )
    without, score = (plan.stage("score") for plan in plans)
    assert "base" not in without.inputs
    assert score.inputs["base"] == plans[0].stage("base").out
    assert score.packages.keys() - without.packages.keys() == {"transformers", "tokenizers"}


def test_recipes_with_one_base_and_one_data_set_share_what_those_answer(
    project: Project,
) -> None:
    one = compile_recipe(project, "quickstart", ())
    other = compile_recipe(
        project, "quickstart", ["train.learning_rate=1e-5", "eval.metrics=[accuracy]", "gates=[]"]
    )
    for artifact in ("base", "baselines"):
        assert (
            one.stage("answer", artifact).spec_text() == other.stage("answer", artifact).spec_text()
        )
    assert one.stage("answer", "torch") != other.stage("train")


def test_a_training_key_moves_neither_base_nor_data(project: Project) -> None:
    assert moved(project, "train.learning_rate=1e-5") == {
        "check", "train", "export", "answer", "score", "report", "gate",
    }  # fmt: skip


def test_a_gate_moves_no_work(project: Project) -> None:
    assert moved(project, "gates=[{metric: exact_match, min: 0.1}]") == {"check", "report", "gate"}


def test_the_checks_come_before_training_and_are_no_part_of_what_it_depends_on(
    project: Project,
) -> None:
    stages = {stage.name: stage for stage in compile_recipe(project, "tiny", []).stages()}
    train = stages["train"]
    assert stages["check"].out in train.deps
    assert stages["check"].out not in train.spec_text()


OTHER: dict[str, list[str]] = {
    "default_gates": ["+default_gates=false"],
    "data.normalize_labels": ["data.normalize_labels=[space]"],
    "model.source": ["model=smollm2-135m-hub"],
    "data.source": ["data.source.path=data/tiny/commands.jsonl"],
    "data.template": ["data.template.prompt='{text}?'"],
    "data.columns": ["+data.columns={text: words}"],
    "train.lora.target_modules": ["train.lora.target_modules=[q_proj]"],
    "train.lora.modules_to_save": ["train.lora.modules_to_save=[lm_head]"],
    "train.lora.exclude_modules": ["++train.lora.exclude_modules=[q_proj]"],
    "train.lora.layers_to_transform": ["++train.lora.layers_to_transform=[1]"],
    "train.lora.rank_pattern": ["++train.lora.rank_pattern={q_proj: 4}"],
    "train.lora.alpha_pattern": ["++train.lora.alpha_pattern={q_proj: 4.0}"],
    "train.lora.use_dora": ["++train.lora.use_dora=true"],
    "train.lora.init_lora_weights": ["++train.lora.init_lora_weights=pissa"],
    "train.lora.loraplus_lr_ratio": ["++train.lora.loraplus_lr_ratio=4"],
    "train.max_steps": ["train.max_steps=3"],
    "train.num_threads": ["train.num_threads=3"],
    "train.metric_for_best_model": ["train.metric_for_best_model=perplexity"],
    "train.early_stopping_patience": ["train.early_stopping_patience=3"],
    "train.early_stopping_threshold": ["train.early_stopping_threshold=0.1"],
    "train.eval_limit": ["train.eval_limit=7"],
    # Of a recipe with the same base, which test_continuing_plan.py is about.
    "train.continue_from": [],
    "train.over": ["train.over=cpu-int4"],
    "eval.num_threads": ["eval.num_threads=3"],
    # With the metric that reads it; test_answer_schema.py has another file for the same metric.
    "eval.json_schema": [
        "++eval.json_schema=data/tiny/commands.jsonl",
        "eval.metrics=[exact_match,json_schema_valid]",
    ],
    "train.method": ["train=full"],
    "train.optim": [],
    # That its own keys do is in test_sources.py.
    "data.sources": [
        "data.source=null",
        "+data.sources=[{name: a, source: {type: file, path: data/tiny/commands.jsonl}}]",
    ],
    # Each key of each loss is looked at by itself: test_a_key_of_a_loss_moves_training.
    "train.loss": ["train.loss={type: focal}"],
    "data.steps": ["data.steps=[{type: drop, column: labels, values: [none]}]"],
    "train.group_by_length": ["train.group_by_length=false"],
    "target": ["target=[cpu-int8]"],
    # Of recipes with adapters, which test_adapters.py is about.
    "adapters": [],
    "train.together": [],
    "train.isolated": [],
    "gates": ["gates=[]"],
    "deploy": ["deploy={device: browser, memory_gb: 2}"],
}
"""Overrides for leaves whose other value cannot be guessed from the type; [] = one value only."""


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        extra = field.json_schema_extra
        annotation = _present(field.annotation)
        nested = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if nested and path not in OTHER:
            assert isinstance(annotation, type)
            yield from leaves(annotation, f"{path}.")
        else:
            yield path, annotation, isinstance(extra, dict) and bool(extra.get("cosmetic"))


def _present(annotation: Any) -> Any:
    """The section of ``Section | None``; anything else as it is."""
    sections = [
        part
        for part in get_args(annotation)
        if isinstance(part, type) and issubclass(part, BaseModel)
    ]
    return sections[0] if len(sections) == 1 and type(None) in get_args(annotation) else annotation


def given_for(path: str) -> tuple[str, ...]:
    """What makes a recipe read a key that another method has."""
    return ("train=qlora",) if path.startswith("train.quantization.") else ()


def other_value(recipe: dict[str, Any], path: str, annotation: Any) -> str:
    value: Any = recipe
    for key in path.split("."):
        value = value[key]
    choices = [choice for choice in _choices(annotation) if choice not in {value, None}]
    if choices:
        return str(choices[0])
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value + 1)
    if isinstance(value, float):
        return str(value * 0.75 + 1e-4)
    if isinstance(value, list):
        return f"[{json.dumps(value[0]) if value else 'other'}]"
    return "7" if path in {"eval.limit", "device.memory_gb"} else "other"


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is not None and str(get_origin(annotation)) == "typing.Literal":
        return get_args(annotation)
    if type(None) in get_args(annotation):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def test_no_key_is_a_dead_knob_and_no_cosmetic_key_reruns_anything(project: Project) -> None:
    """Every leaf of the schema moves a fingerprint, or is declared cosmetic and moves none.

    Names, licences and descriptions are cosmetic to the work; they appear in the report, so they
    may rerun report, and the gate behind it, alone.
    """
    effective = {
        given: dict(compile_recipe(project, "quickstart", given).effective)
        for given in {given_for(path) for path, _, _ in leaves(Recipe)}
    }
    checked = 0
    for path, annotation, cosmetic in leaves(Recipe):
        overrides = OTHER.get(path) if path in OTHER else None
        if overrides == []:
            continue
        given = given_for(path)
        if overrides is None:
            overrides = [f"++{path}={other_value(effective[given], path, annotation)}"]
        kinds = moved(project, *overrides, given=given)
        if cosmetic:
            assert kinds <= {"report", "gate"}, path
        else:
            bars = path in {"gates", "default_gates"}
            assert kinds - {"check", "report", "gate"} or bars, f"{path} is a dead knob"
            assert "gate" in kinds or not bars, f"{path} is a dead knob"
        checked += 1
    assert checked > 45


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ("{}", "{label_smoothing: 0.1}"),
        ("{}", "{type: focal}"),
        ("{}", "{class_weights: {HassTurnOn: 2}}"),
        ("{class_weights: {HassTurnOn: 2}}", "{class_weights: {HassTurnOn: 3}}"),
        ("{type: focal}", "{type: focal, gamma: 1}"),
        ("{type: focal}", "{type: focal, class_weights: {HassTurnOn: 2}}"),
    ],
)
def test_a_key_of_a_loss_moves_training(project: Project, given: str, other: str) -> None:
    found = []
    for loss in (given, other):
        plan = compile_recipe(project, "quickstart", [f"train.loss={loss}"] if loss != "{}" else [])
        prints = plan.fingerprints()
        found.append({stage.kind: prints[stage.address] for stage in plan.stages()})
    same = {kind for kind in found[0] if found[0][kind] == found[1][kind]}
    assert same == {"base", "data"}


def test_the_default_loss_is_in_no_spec(project: Project) -> None:
    plain = generated_files(compile_recipe(project, "quickstart", ()))
    stated = generated_files(
        compile_recipe(project, "quickstart", ["train.loss={type: cross_entropy}"])
    )
    different = {Path(path).name for path in plain if plain[path] != stated[path]}
    # These tell overrides.
    assert different <= {"report.json", "runtime.json", "overrides.yaml"}
    assert '"loss"' not in plain["pipelines/quickstart/plan/train.json"]


@pytest.mark.parametrize(
    ("group", "override", "says", "mend"),
    [
        ("full", "+train.lora={r: 4}", "train.lora: the method full does not read it", "lora"),
        ("full", "train.lora.r=4", "train.lora: the method full does not read it", "lora"),
        (
            "lora",
            "+train.quantization={}",
            "train.quantization: the method lora does not read it",
            "qlora",
        ),
        ("lora", "train.method=full", "train.method: full does not read lora, which conf/", "full"),
        (
            "qlora",
            "train.method=lora",
            "train.method: lora does not read quantization, which conf/train/qlora.yaml:",
            "lora",
        ),
    ],
)
def test_a_section_that_the_method_does_not_read_is_refused(
    project: Project, group: str, override: str, says: str, mend: str
) -> None:
    with pytest.raises(BadRecipeError) as caught:
        compile_recipe(project, "quickstart", [f"train={group}", override])
    assert caught.value.what.startswith(f"override '{override}': {says}")
    assert f"train={mend}" in caught.value.mend
    still = [] if "method" in override else [override]
    assert compile_recipe(project, "quickstart", [f"train={mend}", *still])


def test_a_method_has_its_own_sections_and_packages_in_its_spec(project: Project) -> None:
    found = {}
    for method in ("bottleneck", "full", "lora", "qlora"):
        plan = compile_recipe(project, "quickstart", [f"train={method}"])
        (train,) = (stage for stage in plan.stages() if stage.kind == "train")
        sections = {"bottleneck", "lora", "quantization"} & train.config.keys()
        found[method] = sections, set(train.packages) - {"torch", "transformers"}
    assert found == {
        "bottleneck": ({"bottleneck"}, set()),
        "full": (set(), set()),
        "lora": ({"lora"}, {"peft"}),
        "qlora": ({"lora", "quantization"}, {"peft", "bitsandbytes"}),
    }


def test_two_recipes_with_equal_data_share_the_stage(project: Project) -> None:
    (project.recipes / "second.yaml").write_text(
        "defaults: [tiny, _self_]\ntrain: {learning_rate: 1e-4}\n", encoding="utf-8"
    )
    one, two = (compile_recipe(project, name, []) for name in ("tiny", "second"))
    assert [p.name for p in one.shared] == [p.name for p in two.shared]
    shared = {path for path in generated_files(one) if "/tiny/" not in path}
    assert shared == {path for path in generated_files(two) if "/second/" not in path}


def test_sync_removes_what_nothing_uses_and_keeps_what_is_shared(project: Project) -> None:
    tiny = compile_recipe(project, "tiny", [])
    sync(project, [tiny])
    first_data = project.pipelines / tiny.shared[1].name
    assert first_data.is_dir()
    other = compile_recipe(project, "tiny", ["data.max_length=48"])
    done = sync(project, [other])
    assert first_data.relative_to(project.root).as_posix() in done.removed
    assert not first_data.exists()
    assert (project.pipelines / other.shared[0].name).is_dir()
    assert sync(project, [other]).written == ()


def test_sync_of_one_recipe_touches_no_other(project: Project) -> None:
    sync(project, [compile_recipe(project, "quickstart", [])])
    before = snapshot(project)
    sync(project, [compile_recipe(project, "tiny", [])])
    after = snapshot(project)
    assert {path: text for path, text in after.items() if path in before} == before


def snapshot(project: Project) -> dict[str, str]:
    return {
        path.relative_to(project.root).as_posix(): path.read_text(encoding="utf-8")
        for path in project.pipelines.rglob("*")
        if path.is_file()
    }


def test_no_value_of_a_recipe_reaches_a_command(project: Project) -> None:
    evil = "$(touch /tmp/canary); `id`"
    plan = compile_recipe(project, "tiny", [f"data.template.completion='{{label}} {evil}'"])
    for stage in plan.stages():
        assert stage.command == f"slmcompile exec {stage.spec_path}"
        assert all(c.isalnum() or c in "/-_. " for c in stage.command)


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("data.source.path=/etc/passwd", RefusedError),
        ("data.source.path=../x", RefusedError),
        ("data.source.path=data/none.jsonl", BadDataError),
        ("gates=[{metric: exact_match, artifact: cpu-int8, min: 1}]", BadRecipeError),
        ("gates=[{metric: exact_match}]", BadRecipeError),
        ("gates=[{metric: exact_match, max_drop: 0.1}]", BadRecipeError),
        ("target=[]", BadRecipeError),
    ],
)
def test_a_plan_that_cannot_work_is_not_made(
    project: Project, override: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        compile_recipe(project, "tiny", [override])


def test_a_link_that_leaves_the_project_is_refused(project: Project, tmp_path: Path) -> None:
    (project.root / "data" / "link.jsonl").symlink_to("/etc/hostname")
    with pytest.raises(RefusedError):
        compile_recipe(project, "tiny", ["data.source.path=data/link.jsonl"])


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": -0.0, "a": "e\u0301"}) == '{"a":"é","b":0.0}'
    assert digest({"a": 1, "b": [1.5]}) == digest({"b": (1.5,), "a": 1})
    assert digest({"a": None}) != digest({})
    with pytest.raises(ValueError, match="no canonical form"):
        canonical_json({"a": float("nan")})


def test_plan_ids_differ_by_plan(project: Project) -> None:
    ids: set[str] = set()
    for overrides in ([], ["train.seed=1"], ["eval.limit=3"], ["track=none"]):
        plan: Plan = compile_recipe(project, "quickstart", overrides)
        ids.add(plan.plan_id)
    assert len(ids) == 3  # tracking is no part of a plan's identity


def test_a_stage_is_found_by_kind_artifact_and_member(project: Project) -> None:
    plan = compile_recipe(project, "tiny", ())
    assert plan.stage("train").member == ""
    assert plan.stage("answer", "cpu-fp32").artifact == "cpu-fp32"
    with pytest.raises(KeyError, match="answer-cpu-fp32--tone"):
        plan.stage("answer", "cpu-fp32", "tone")
    known = plan.stage("answer", "cpu-fp32")
    of_member = replace(known, name=stage_name("answer", "cpu-fp32", "tone"))
    assert (of_member.artifact, of_member.member) == ("cpu-fp32", "tone")
    dashed = replace(known, name=stage_name("answer", "cpu-", "tone"))
    assert (dashed.artifact, dashed.member) == ("cpu-", "tone")
    both = replace(plan, own=replace(plan.own, stages=(known, of_member)))
    assert both.stage("answer", "cpu-fp32", "tone") is of_member
    assert both.stage("answer", "cpu-fp32") is known
