"""What Hydra's own ``compose`` and OmegaConf make of a recipe is what ours makes of it, by value.

Ours takes Hydra's defaults list and override grammar and merges by itself, to keep where each value
came from and to execute nothing. Hydra is the judge of whether it does so as Hydra would.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from slmcompile.console.errors import SlmcompileError
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Recipe
from tests.projects import make_project

GROUPS = {
    "model": ["tiny-llama", "smollm2-135m"],
    "data": ["tiny-commands", "voice-intents"],
    "train": ["tiny", "lora", "full", "qlora", "dora"],
    "eval": ["structured", "text"],
    "track": ["none", "tensorboard"],
}
TARGETS = ["cpu-fp32", "cpu-int8", "cpu-int4"]
VALUES: dict[str, list[Any]] = {
    "description": ["", "one: two", "é, ${data.name}", "1e-3", "null "],
    "data.seed": [0, 7, "${train.seed}"],
    "data.columns": [{}, {"text": "sentence"}, {"a": "b", "c": "d"}],
    "data.max_length": [64, 128, "${eval.max_new_tokens}"],
    "data.normalize_labels": [None, [], ["case"], ["space", "number"]],
    "train.learning_rate": [1e-3, 0.5, "${train.weight_decay}"],
    "train.weight_decay": [0.0, 0.01, 1],
    "train.num_train_epochs": [1, 2.5],
    "train.max_steps": [-1, 10],
    "train.seed": [0, 3],
    "train.lora.r": [4, 16],
    "train.lora.target_modules": ["all-linear", ["q_proj", "v_proj"]],
    "eval.limit": [None, 20],
    "eval.max_new_tokens": [8, 64],
    "eval.metrics": [["accuracy"], ["exact_match", "perplexity"], []],
    "gates": [[], [{"metric": "exact_match", "min": 0.5}]],
    "track.tags": [[], ["a", "b c"]],
}
agreeing = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
composed = {"both": 0, "ours refused": 0}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(make_project(tmp_path_factory.mktemp("hydra").resolve(), data=("tiny",)))


def by_hydra(project: Project, overrides: Sequence[str]) -> dict[str, Any]:
    """The values, all references followed, as Hydra and OmegaConf alone make them."""
    path = f"hydra.searchpath=[file://{project.root / 'conf'}]"
    # Hydra asks for a plus where no file has written a key; ours knows from the schema which exist.
    added = [
        each if each.partition("=")[0] in {*GROUPS, "target"} else f"++{each.lstrip('+')}"
        for each in overrides
    ]
    with initialize_config_dir(str(project.recipes), version_base="1.3"):
        config = hydra_compose("made", overrides=[*added, path])
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return values


def written(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, str) and "${" not in value:
        return "'" + value + "'"
    return "null" if value is None else str(value)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Sections of dotted keys."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        section = found
        *above, last = path.split(".")
        for key in above:
            section = section.setdefault(key, {})
        section[last] = value
    return found


chosen = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 9), max_size=5)
targets = st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3, unique=True)


@st.composite
def recipes(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """A recipe's file and overrides, nearly all of them sound."""
    picks: list[Any] = [{name: draw(st.sampled_from(GROUPS[name]))} for name in sorted(GROUPS)]
    picks.append({"target": draw(targets)})
    picks = draw(st.permutations(picks))
    if draw(st.booleans()):
        picks.append("_self_")
    elif draw(st.booleans()):
        picks.insert(0, "_self_")
    values = {key: VALUES[key][n % len(VALUES[key])] for key, n in draw(chosen).items()}
    overrides = []
    for key, n in draw(chosen).items():
        sign = draw(st.sampled_from(["", "++"]))
        overrides.append(f"{sign}{key}={written(VALUES[key][n % len(VALUES[key])])}")
    if draw(st.booleans()):
        name = draw(st.sampled_from(["train", "eval", "model"]))
        overrides.insert(0, f"{name}={draw(st.sampled_from(GROUPS[name]))}")
    if draw(st.booleans()):
        overrides.append(f"target=[{','.join(draw(targets))}]")
    return {"defaults": picks, **nested(values)}, overrides


@agreeing
@given(made=recipes())
def test_ours_composes_as_hydra_does(
    project: Project, made: tuple[dict[str, Any], list[str]]
) -> None:
    content, overrides = made
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (project.recipes / "made.yaml").write_text(text, encoding="utf-8")
    try:
        ours = compose(project, "made", overrides).recipe
    except SlmcompileError:
        composed["ours refused"] += 1
        return
    theirs = Recipe.model_validate_json(json.dumps(by_hydra(project, overrides)))
    assert ours == theirs
    composed["both"] += 1


def test_most_of_them_were_composed_and_not_refused() -> None:
    assert composed["both"] > 40, composed


@pytest.mark.parametrize("recipe", ["tiny", "quickstart"])
def test_the_shipped_recipes_are_what_hydra_makes_of_them(project: Project, recipe: str) -> None:
    (project.recipes / "made.yaml").write_text((project.recipes / f"{recipe}.yaml").read_text())
    ours = compose(project, recipe, ["train.seed=5"]).recipe
    assert ours == Recipe.model_validate_json(json.dumps(by_hydra(project, ["train.seed=5"])))
