"""The JSON Schema that editors use: right about every shipped file, closed, and current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from slmcompile.cli.init import init
from slmcompile.cli.main import main
from slmcompile.console.errors import UsageError
from slmcompile.recipe import schema
from slmcompile.recipe.compose import compose
from slmcompile.recipe.json_schema import groups, recipe_schema, schema_files
from slmcompile.recipe.key_docs import key_docs
from slmcompile.recipe.project import Project
from slmcompile.recipe.save import write_recipe
from slmcompile.recipe.schema_files import editor_line
from slmcompile.recipe.yaml_file import read_yaml
from tests.projects import REPOSITORY, make_project

SHIPPED = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (*REPOSITORY.glob("recipes/*.yaml"), *REPOSITORY.glob("conf/*/*.yaml"))
)


def errors(document: dict[str, Any], value: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(document).iter_errors(value)]


def document_of(path: str) -> dict[str, Any]:
    folder = path.split("/")[-2]
    made: dict[str, Any] = json.loads(
        schema_files()["recipe.json" if folder == "recipes" else f"{folder}.json"]
    )
    return made


@pytest.mark.parametrize("path", SHIPPED)
def test_every_shipped_file_is_valid_and_leads_an_editor_to_its_schema(path: str) -> None:
    file = REPOSITORY / path
    assert errors(document_of(path), read_yaml(file, path).content) == []
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert f"{first}\n" == editor_line(file.parent.relative_to(REPOSITORY).as_posix())
    assert (file.parent / first.partition("$schema=")[2]).resolve().is_file()


def test_the_checked_in_schemas_are_current() -> None:
    for name, text in schema_files().items():
        found = (REPOSITORY / "schema" / name).read_text(encoding="utf-8")
        assert found == text, "run `slmcompile schema --write`"


def test_the_reference_of_keys_is_current_and_has_every_key() -> None:
    text = (REPOSITORY / "docs/keys.md").read_text(encoding="utf-8")
    assert text == key_docs(), "run `slmcompile schema --docs > docs/keys.md`"
    for section in vars(schema).values():
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert all(f"| `{name}` |" in text for name in section.model_fields)


def test_every_key_has_a_description() -> None:
    for section in vars(schema).values():
        if isinstance(section, type) and issubclass(section, schema.Section):
            for name, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{name}"


def test_schemas_are_schemas() -> None:
    for text in schema_files().values():
        Draft202012Validator.check_schema(json.loads(text))
    assert groups()[:3] == ("model", "data", "train")


@pytest.mark.parametrize(
    "recipe",
    [
        {"train": {"learning_rat": 1e-4}},
        {"train": {"learning_rate": "fast"}},
        {"train": {"learning_rate": -1}},
        {"train": {"lora": {"r": 1.5}}},
        {"train": {"lora": {"rank": 8}}},
        {"modle": {}},
        {"target": {"Not A Name": {"precision": "int8"}}},
        {"target": {"cpu": {"precision": "int9"}}},
        {"gates": [{"min": 0.5}]},
        {"gates": [{"metric": "exact_match", "mni": 0.5}]},
        {"data": {"source": {"type": "file", "pth": "x"}}},
        {"data": {"source": {"type": "floppy"}}},
        {"data": {"source": {"type": "file", "files": {"dev": "x"}}}},
        {"defaults": [{"policy": "default"}]},
        {"defaults": [{"override /hydra/launcher": "x"}]},
        {"defaults": {"model": "x"}},
        {"policy": {}},
    ],
)
def test_a_typo_and_a_wrong_type_are_refused(recipe: dict[str, Any]) -> None:
    assert errors(recipe_schema(), recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"defaults": ["tiny", {"override /model": "x"}, {"target": ["a", "b"]}, "_self_"]},
        {"train": {"learning_rate": "${data.seed}", "lora": "${other.lora}"}},
        {"train": {"lora": {"target_modules": ["q_proj", "${data.name}"]}}},
        {"data": {"source": {"path": "data/x.jsonl"}}},
        {"data": {"split": {"validation": "${data.split.test}"}}},
        {"target": {"cpu": "${target.other}"}, "gates": [{"metric": "accuracy", "min": 1}]},
        {"eval": {"limit": None}},
    ],
)
def test_partial_files_and_interpolations_are_valid(recipe: dict[str, Any]) -> None:
    assert errors(recipe_schema(), recipe) == []


def test_what_composes_is_valid() -> None:
    """The schema refuses no value that the compiler takes: whole recipes, defaults filled in."""
    project = Project(REPOSITORY)
    for name in project.names():
        whole = compose(project, name).whole.model_dump(mode="json")
        assert errors(recipe_schema(), whole) == []


def test_saved_and_first_recipes_carry_a_line_that_resolves(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    init("tiny", root)
    saved = write_recipe(Project(root), "tiny", ["train.lora.r=4", "train={seed: 3}"], "other")
    for path in (root / "recipes/tiny.yaml", saved):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert (path.parent / first.partition("$schema=")[2]).resolve().is_file()
        assert errors(recipe_schema(), read_yaml(path, path.name).content) == []
    assert compose(Project(root), "other").recipe.train.seed == 3


def test_overrides_that_no_file_can_say_are_not_saved(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    for override in ("~train.lora.lora_alpha", "eval.metrics.0=perplexity"):
        with pytest.raises(UsageError, match="no recipe file says the same"):
            write_recipe(project, "tiny", [override], "other")
        assert not (project.recipes / "other.yaml").exists()


def test_schema_prints_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A slmcompile recipe"
    assert main(["schema", "--group", "train"]) == 0
    assert "learning_rate" in json.loads(capsys.readouterr().out)["properties"]
    assert main(["schema", "--group", "trian"]) == 64
    assert "did you mean 'train'?" in capsys.readouterr().err
