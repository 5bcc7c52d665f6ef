"""Recipes compose, and a wrong one is answered with file, line, key and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile.console.errors import (
    BadRecipeError,
    Exit,
    RefusedError,
    SlmcompileError,
    UsageError,
)
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project
from tests.projects import REPOSITORY, make_project

ONE_ADAPTER = """
defaults:
  - model: tiny-llama
  - train: tiny
  - adapter@adapters.%s: %s
  - target: [cpu-fp32]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve()))


def failure(project: Project, *overrides: str, recipe: str = "tiny") -> SlmcompileError:
    with pytest.raises(SlmcompileError) as caught:
        compose(project, recipe, overrides)
    return caught.value


def write(project: Project, name: str, text: str) -> None:
    (project.recipes / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_groups_recipe_and_overrides_merge_in_that_order(project: Project) -> None:
    group = compose(project, "tiny").recipe
    changed = compose(project, "tiny", ["train.lora.r=4", "eval=text"]).recipe
    assert group.eval.max_new_tokens == 8  # the recipe's own value over the group's 64
    assert changed.train.lora
    assert group.train.lora
    assert changed.train.lora.r == 4
    assert changed.eval.metrics == ("exact_match", "perplexity")
    assert changed.eval.max_new_tokens == 8
    assert changed.train.lora.lora_alpha == group.train.lora.lora_alpha


def test_scientific_notation_is_a_number(project: Project) -> None:
    write(project, "sci", "defaults: [tiny, _self_]\ntrain:\n  learning_rate: 2e-5\n")
    assert compose(project, "sci").recipe.train.learning_rate == 2e-5
    assert compose(project, "tiny", ["train.learning_rate=3e-4"]).recipe.train.learning_rate == 3e-4


def test_an_override_equals_the_edit(project: Project) -> None:
    write(project, "edit", "defaults: [tiny, _self_]\ntrain: {seed: 7, lora: {r: 4}}\n")
    by_override = compose(project, "tiny", ["train.seed=7", "train.lora.r=4"]).recipe
    assert compose(project, "edit").recipe == by_override


def test_every_shipped_recipe_composes() -> None:
    project = Project(REPOSITORY)
    assert project.names() == ["assistant", "quickstart", "tiny"]
    for name in project.names():
        assert compose(project, name).whole.target


def test_every_shipped_option_of_every_group_composes(project: Project) -> None:
    for path in sorted(project.conf.glob("*/*.yaml")):
        group, option = path.parent.name, path.stem
        if group == "policy":
            continue
        if group == "adapter":
            write(project, "one", ONE_ADAPTER % (option, option))
            assert compose(project, "one").members[option].recipe.data.name
            continue
        value = f"[{option}]" if group == "target" else option
        compose(project, "quickstart", [f"{group}={value}"])


def test_only_contributing_files_are_named(project: Project) -> None:
    names = [project.shown(path) for path in compose(project, "tiny").files]
    assert names[-1] == "recipes/tiny.yaml"
    assert "conf/target/cpu-fp32.yaml" in names
    assert "conf/target/cpu-int8.yaml" not in names


@pytest.mark.parametrize(
    ("key", "mend"),
    [
        ("train.learning_rat", "did you mean 'train.learning_rate'?"),
        ("train.micro_batch_size", "here it is called train.per_device_train_batch_size"),
        ("train.lora.lora_rank", "here it is called train.lora.r"),
        ("data.cutoff_len", "here it is called data.max_length"),
        ("modle", "did you mean 'model'?"),
        ("target.cpu-fp32.precison", "did you mean 'target.cpu-fp32.precision'?"),
    ],
)
def test_an_unknown_key_gets_the_nearest_name(project: Project, key: str, mend: str) -> None:
    error = failure(project, f"{key}=1")
    assert error.code == Exit.BAD_RECIPE
    assert f": {key}: unknown key" in error.what
    assert error.mend == mend


def test_an_unknown_key_in_a_file_is_named_with_its_line(project: Project) -> None:
    write(project, "typo", "defaults:\n  - tiny\n  - _self_\n\ntrain:\n  learning_rat: 1\n")
    error = failure(project, recipe="typo")
    assert error.what == "recipes/typo.yaml:6: train.learning_rat: unknown key"


def test_an_unknown_key_in_a_group_is_named_with_the_groups_line(project: Project) -> None:
    path = project.conf / "train" / "tiny.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "sead: 3\n", encoding="utf-8")
    line = len(path.read_text(encoding="utf-8").splitlines())
    error = failure(project)
    assert error.what == f"conf/train/tiny.yaml:{line}: train.sead: unknown key"
    assert error.mend == "did you mean 'train.seed'?"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.learning_rate=fast", "must be a number (given 'fast')"),
        ("train.learning_rate='2e-5'", "must be a number (given '2e-5')"),
        ("train.seed=1.5", "train.seed"),
        ("train.lora.r=0", "must be 1 or more (given 0)"),
        ("target.cpu-fp32.precision=fp7", "'fp32', 'int8', 'int4' or 'mixed' (given 'fp7')"),
        ("data.task=sing", "data.task"),
        ("model.source.type=cloud", "model.source"),
        ("gates=[{metric: bleuu, min: 1}]", "gates.0.metric"),
        ("data.source.path=null", "neither path nor files is given"),
    ],
)
def test_a_wrong_value_is_a_bad_recipe(project: Project, override: str, says: str) -> None:
    from slmcompile.plans.builder import build

    with pytest.raises(BadRecipeError) as caught:
        build(project, compose(project, "tiny", [override]))
    assert says in caught.value.what
    assert "Traceback" not in str(caught.value)


def test_a_missing_group_names_the_options(project: Project) -> None:
    error = failure(project, "target=[cpu-int9]")
    assert error.what == "override 'target=[cpu-int9]': no option of target is called 'cpu-int9'"
    assert error.mend in {"did you mean 'cpu-int8'?", "did you mean 'cpu-int4'?"}
    write(project, "group", "defaults:\n  - model: gpt-9\n  - _self_\n")
    error = failure(project, recipe="group")
    assert error.what == "recipes/group.yaml:2: no option of model is called 'gpt-9'"
    assert "smollm2-135m" in error.mend


def test_no_such_recipe_names_the_nearest(project: Project) -> None:
    assert failure(project, recipe="tny").mend == "did you mean 'tiny'?"
    with pytest.raises(UsageError):
        compose(project, "../tiny")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "recipe"),
        ("- a\n- b\n", "not a mapping"),
        ("a: [1,\n", ":2:"),
        ("a: 1\na: 2\n", "duplicate"),
        ("a: &x 1\nb: *x\n", "anchors and aliases"),
        ("a: " + "[" * 200 + "]" * 200, "deep"),
        ("\x00", "not YAML"),
    ],
)
def test_a_broken_file_is_a_bad_recipe(project: Project, text: str, says: str) -> None:
    write(project, "broken", text)
    error = failure(project, recipe="broken")
    assert error.code == Exit.BAD_RECIPE
    assert says in error.what


@pytest.mark.parametrize(
    "text",
    [
        "train: {_target_: os.system}\n",
        "hydra: {run: {dir: /tmp/x}}\n",
        "description: ${oc.env:HOME}\n",
        "description: ${now:%Y}\n",
        "description: !!python/object/apply:os.system [ls]\n",
        "defaults: [../../etc/passwd]\n",
        "defaults: [{model: ../../x}]\n",
        "defaults: ['file:///etc/passwd']\n",
        "defaults: [{hydra/launcher: basic}]\n",
    ],
)
def test_what_could_execute_or_escape_is_refused(project: Project, text: str) -> None:
    write(project, "evil", text)
    with pytest.raises(RefusedError):
        compose(project, "evil")


@pytest.mark.parametrize(
    "override",
    [
        "hydra.run.dir=x",
        "hydra/launcher=x",
        "train._target_=os.system",
        "description=${oc.env:HOME}",
    ],
)
def test_overrides_that_could_execute_are_refused(project: Project, override: str) -> None:
    assert failure(project, override).code == Exit.REFUSED


def test_an_override_given_twice_is_an_error(project: Project) -> None:
    error = failure(project, "train.seed=1", "train.seed=2")
    assert "given twice" in error.what
    assert error.code == Exit.BAD_RECIPE


def test_an_interpolation_to_nowhere_names_its_line(project: Project) -> None:
    write(project, "inter", "defaults: [tiny, _self_]\ntrain:\n  seed: ${train.sed}\n")
    assert failure(project, recipe="inter").what.startswith("recipes/inter.yaml:3: train.seed: ")
