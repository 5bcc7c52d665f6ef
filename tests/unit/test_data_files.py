"""Several files and globs: a plan names each file, and what reads the recipe reads the same."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

import slmcompile.plans.data_files as data_files
from slmcompile.console.errors import BadDataError, BadRecipeError, RefusedError, SlmcompileError
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.sides import diff
from slmcompile.plans.data_files import matches
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.project import Project
from slmcompile.state.emit import generated_files
from tests.projects import commit, make_project, make_repository
from tests.unit.checks.data_contexts import planned, verdict

PARTS = ("b.jsonl", "a.jsonl", "c.csv")


def rows(name: str) -> list[dict[str, str]]:
    return [{"text": f"{name} {n}", "label": "on"} for n in range(3)]


def write_parts(folder: Path) -> None:
    for name in PARTS:
        path = folder / "data/parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) for row in rows(name)]
        if name.endswith("csv"):
            lines = ["text;label", *(";".join(row.values()) for row in rows(name))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "data/parts/.hidden.jsonl").write_text("{", encoding="utf-8")
    (folder / "data/parts/sub.jsonl").mkdir()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = make_project(tmp_path.resolve() / "project", data=("tiny",))
    write_parts(folder)
    return Project(folder)


def compiled(project: Project, *overrides: str) -> Plan:
    return compile_recipe(project, "tiny", overrides)


def data_stage(plan: Plan) -> Stage:
    return next(stage for stage in plan.stages() if stage.kind == "data")


def test_a_glob_names_its_files_in_order_of_name(project: Project) -> None:
    plan = compiled(project, "data.source.path=data/parts/*.jsonl")
    files = ("data/parts/a.jsonl", "data/parts/b.jsonl")
    stage = data_stage(plan)
    assert stage.files == files
    assert set(files) <= {*stage.deps} & plan.files.keys()
    assert stage.config["source"]["path"] == [*files]
    assert plan.effective["data"]["source"]["path"] == [*files]


def test_a_list_keeps_its_order_and_names_each_file_once(project: Project) -> None:
    listed = "data.source.path=[data/parts/b.jsonl,'data/parts/*.jsonl','data/*/c.csv']"
    assert data_stage(compiled(project, listed)).files == (
        "data/parts/b.jsonl", "data/parts/a.jsonl", "data/parts/c.csv",
    )  # fmt: skip


def test_files_of_each_split_may_be_several(project: Project) -> None:
    files = "{test: data/parts/c.csv, train: [data/parts/b.jsonl, 'data/parts/a.*']}"
    plan = compiled(project, "data.source.path=null", f"+data.source.files={files}")
    stage = data_stage(plan)
    assert stage.files == ("data/parts/b.jsonl", "data/parts/a.jsonl", "data/parts/c.csv")
    assert stage.names == ("source.files.train", "source.files.test")
    assert stage.config["source"]["files"] == {
        "train": ["data/parts/b.jsonl", "data/parts/a.jsonl"], "test": "data/parts/c.csv",
    }  # fmt: skip


def fingerprint(project: Project, *overrides: str) -> str:
    plan = compiled(project, *overrides)
    return plan.fingerprints()[data_stage(plan).address]


def test_the_same_files_by_another_name_are_the_same_work(project: Project) -> None:
    glob = fingerprint(project, "data.source.path=data/parts/*.jsonl")
    listed = "data.source.path=[data/parts/a.jsonl,data/parts/b.jsonl]"
    assert fingerprint(project, listed) == glob
    turned = "data.source.path=[data/parts/b.jsonl,data/parts/a.jsonl]"
    assert fingerprint(project, turned) != glob
    one = fingerprint(project, "data.source.path=data/parts/c.csv")
    assert fingerprint(project, "data.source.path=data/parts/*.csv") == one


def test_a_new_file_that_a_glob_matches_changes_the_plan(project: Project) -> None:
    before = fingerprint(project, "data.source.path=data/parts/*.jsonl")
    (project.root / "data/parts/d.jsonl").write_text(json.dumps(rows("d")[0]), encoding="utf-8")
    assert fingerprint(project, "data.source.path=data/parts/*.jsonl") != before


def test_a_folder_that_a_glob_looks_in_is_a_dependency_of_the_plan(project: Project) -> None:
    """So that `dvc repro` alone sees a new file too; the project itself holds the outputs."""
    globs = "data.source.path=['data/parts/*.jsonl','*.jsonl','data/*/c.csv',data/parts/a.jsonl]"
    (project.root / "x.jsonl").write_text(json.dumps(rows("x")[0]), encoding="utf-8")
    plan = compiled(project, globs)
    assert plan.own.folders == ("data", "data/parts")
    document = yaml.safe_load(generated_files(plan)["pipelines/tiny/dvc.yaml"])
    assert {"data", "data/parts"} <= {*document["stages"]["plan"]["deps"]}
    assert compiled(project, "data.source.path=data/parts/a.jsonl").own.folders == ()


def test_a_file_whose_name_looks_like_a_glob_is_that_file(project: Project) -> None:
    name = "data/parts/[ab].jsonl"
    (project.root / name).write_text(json.dumps(rows("x")[0]), encoding="utf-8")
    assert data_stage(compiled(project, f"data.source.path='{name}'")).files == (name,)


def test_the_first_rows_of_every_file_are_looked_at(project: Project) -> None:
    """In the order of the plan; a CSV file beside JSON Lines is read as such."""
    several = "data.source.path=[data/parts/*.jsonl,data/parts/c.csv]"
    overrides = (several, "data.split.strategy=random", "data.split.by=null")
    found = verdict(6, planned(project.root, *overrides))
    assert found.evidence == "text, label: filled in all 9 rows, not rendered yet"
    (project.root / "data/parts/d.csv").write_text("text,lable\na,b\n", encoding="utf-8")
    with_typo = ("data.source.path='data/parts/[cd].csv'", *overrides[1:])
    found = verdict(6, planned(project.root, *with_typo))
    assert found.evidence == "data/parts/d.csv:2: no column 'label'"
    (project.root / "data/parts/e.csv").write_text("\n", encoding="utf-8")
    empty = ("data.source.path='data/parts/[ce].csv'", *overrides[1:])
    found = verdict(6, planned(project.root, *empty))
    assert found.evidence == "data/parts/e.csv: the file is empty"


REFUSED: list[tuple[str, type[SlmcompileError], str, str]] = [
    ("data/parts/*.json", BadDataError, "data/parts/*.json matches no file",
     "data/parts/ holds data/parts/"),
    ("data/part/*.jsonl", BadDataError, "matches no file", "there is nothing in data/part"),
    ("data/parts", BadDataError, "a folder and not a file", "name its files: data/parts/*.jsonl"),
    ("data/**/a.jsonl", BadRecipeError, "** is not followed", "name each folder"),
    ("../*.jsonl", RefusedError, "lies outside the project", "move it"),
    ("/etc/*.conf", RefusedError, "lies outside the project", "move it"),
    ("data/../../*", RefusedError, "lies outside the project", "move it"),
    ("data/parts/.h*", RefusedError, "is hidden", "without a dot"),
    ("https://example.org/*.jsonl", RefusedError, "is an address", "put a copy"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "error", "what", "mend"), REFUSED)
def test_a_glob_stays_in_the_project_and_says_what_is_wrong(
    project: Project, path: str, error: type[SlmcompileError], what: str, mend: str
) -> None:
    with pytest.raises(error) as caught:
        compiled(project, f"data.source.path='{path}'")
    assert caught.value.what.startswith("override ")
    assert f": data.source.path: {path}" in caught.value.what
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xff.jsonl", "\\udcff.jsonl: the name holds what is no text"),
        (b"a\nb.jsonl", "a\\nb.jsonl: the name holds what is no text"),
        (b"a\x1b[2J.jsonl", "a\\u001b[2J.jsonl: the name holds what is no text"),
        (b"${x}.jsonl", "${x}.jsonl: the name holds ${, a variable to DVC"),
    ],
    ids=["bytes", "line", "escape", "variable"],
)
def test_a_name_that_generated_files_cannot_hold_is_refused(
    project: Project, name: bytes, shown: str
) -> None:
    """Matched by a glob, in its folder's name or its own."""
    folder = os.fsencode(project.root / "data")
    Path(os.fsdecode(folder + b"/parts/" + name)).write_text("{}", encoding="utf-8")
    inner = Path(os.fsdecode(folder + b"/" + name))
    inner.mkdir()
    (inner / "z.jsonl").write_text("{}", encoding="utf-8")
    for glob, says in (("parts/*.jsonl", f"parts/{shown}"), ("*/z.jsonl", shown.partition(":")[0])):
        with pytest.raises(RefusedError, match="rename the file") as caught:
            compiled(project, f"data.source.path='data/{glob}'")
        assert f": data.source.path: data/{says}" in caught.value.what


@pytest.mark.parametrize("path", ["data/parts/*.jsonl", "data/linked/*.jsonl", "data/*/a.jsonl"])
def test_a_link_on_the_way_or_among_the_files_is_refused(
    project: Project, tmp_path: Path, path: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jsonl").write_text("{}", encoding="utf-8")
    (project.root / "data/linked").symlink_to(outside)
    (project.root / "data/parts/z.jsonl").symlink_to(outside / "a.jsonl")
    with pytest.raises(RefusedError, match="goes through a symbolic link"):
        compiled(project, f"data.source.path={path}")


def test_which_split_a_file_is_in_is_part_of_the_work(project: Project) -> None:
    """Also where it is in two, which another check refuses as a leak."""

    def of(test: str) -> str:
        files = f"{{train: [data/parts/a.jsonl, data/parts/b.jsonl], test: data/parts/{test}}}"
        return fingerprint(project, "data.source.path=null", f"+data.source.files={files}")

    assert of("a.jsonl") != of("b.jsonl")


def test_the_number_of_files_is_bounded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "MOST_FILES", 1)
    with pytest.raises(BadDataError, match="matches 2 files, more than 1"):
        compiled(project, "data.source.path=data/parts/*.jsonl")
    monkeypatch.setattr(data_files, "MOST_FILES", 2)
    many = "data.source.path=[data/parts/*.jsonl,data/tiny/*.jsonl]"
    with pytest.raises(BadDataError, match="3 files, more than 2"):
        compiled(project, many)


def test_a_file_that_no_recipe_could_name_is_refused_as_that(project: Project) -> None:
    folder = "/".join(["d" * 200] * 3)
    (project.root / "data" / folder).mkdir(parents=True)
    (project.root / "data" / folder / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    with pytest.raises(BadDataError, match="has 618 characters, more than 512"):
        compiled(project, "data.source.path=data/*/*/*/*.jsonl")


@pytest.mark.parametrize(
    ("glob", "path", "wanted"),
    [
        ("a/*.csv", "a/b.csv", True), ("a/*.csv", "a/b/c.csv", False), ("*", ".a", False),
        ("a/?[xy]", "a/1x", True), ("*/b", "a/b", True), ("a/*", "A/b", False),
    ],
)  # fmt: skip
def test_a_star_matches_within_one_name(glob: str, path: str, wanted: bool) -> None:
    assert matches(glob, path) is wanted


def test_a_revision_has_the_files_that_its_glob_matched_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repository(tmp_path.resolve() / "project")
    write_parts(root)
    recipe = root / "recipes/tiny.yaml"
    text = recipe.read_text(encoding="utf-8") + "data: {source: {path: 'data/parts/*.jsonl'}}\n"
    recipe.write_text(text, encoding="utf-8")
    commit(root, "two files")
    (root / "data/parts/b.jsonl").unlink()
    monkeypatch.chdir(root)
    project = Project(root)
    changed: Mapping[str, str] = {
        stage.name: stage.status for stage in diff(project, ("tiny@HEAD", "tiny")).stages
    }
    assert changed["data"] == "changed"
    keys = {key.key: (key.old, key.new) for key in diff(project, ("tiny@HEAD", "tiny")).keys}
    assert keys["data.source.path"] == (
        ["data/parts/a.jsonl", "data/parts/b.jsonl"], "data/parts/a.jsonl",
    )  # fmt: skip
