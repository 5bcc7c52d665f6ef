"""The ``check`` stage judges the rows as they are and stops what must not be trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import slmcompile.data.prepare as program
from slmcompile.base.fetch import fetch
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.console.progress import Silent
from slmcompile.execution.sync import compile_recipe
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema import Data
from slmcompile.sources.of_models.random import RandomModel
from slmcompile.stages import check
from slmcompile.stages.context import Context
from tests.data_stage import Said
from tests.projects import make_project
from tests.stages.test_data_facts import all_masked, prompt_trained, spoil, stop_masked

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",)))


@pytest.fixture(scope="module")
def base(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    source = compile_recipe(project, "tiny", []).effective["model"]["source"]
    fetch(RandomModel.model_validate(source), project.root, out, Silent())
    return out


class Judged:
    """The stages ``data`` and ``check`` of a recipe, run in this process."""

    def __init__(
        self, project: Project, base: Path, folder: Path, *overrides: str, recipe: str = "tiny"
    ) -> None:
        plan = compile_recipe(project, recipe, overrides)
        rows, self.out = folder / "rows", folder / "check"
        rows.mkdir()
        self.out.mkdir()
        config = Data.model_validate_json(json.dumps(plan.effective["data"]))
        program.prepare(config, project.root, base, rows, Silent())
        stage = next(stage for stage in plan.own.stages if stage.kind == "check")
        self.said = Said()
        self.context = Context(
            project=project.root,
            stage=stage.address,
            config=stage.config,
            inputs={"base": base, "data": rows},
            manifests={},
            out=self.out,
            scratch=folder / "scratch",
            fingerprint="",
            runtime={},
            progress=self.said,
        )

    def refuses(self) -> SlmcompileError:
        with pytest.raises(SlmcompileError) as caught:
            check.run(self.context)
        assert not list(self.out.iterdir())
        return caught.value


def test_the_shipped_rows_pass(project: Project, base: Path, tmp_path: Path) -> None:
    judged = Judged(project, base, tmp_path)
    check.run(judged.context)
    assert [path.name for path in judged.out.iterdir()] == ["passed"]
    assert not [line for line in judged.said.lines if "not decided" in line]


def test_rows_of_which_nothing_is_known_do_not_pass(
    project: Project, base: Path, tmp_path: Path
) -> None:
    """A rule without facts is silent while planning, and here would let anything through."""
    judged = Judged(project, base, tmp_path)
    report = judged.context.inputs["data"] / "data_report.json"
    report.write_bytes(report.read_bytes() + b" " * (9 << 20))
    error = judged.refuses()
    assert (error.code, "data_report.json: not as" in error.what) == (Exit.CORRUPT, True)


def test_a_report_stays_small_whatever_the_rows_hold(
    project: Project, base: Path, tmp_path: Path
) -> None:
    """One prompt with 3,000 long answers, of which the report shows some."""
    file = project.root / "data" / "tiny" / "commands.jsonl"
    shipped = file.read_text(encoding="utf-8")
    first = json.loads(shipped.splitlines()[0])
    answers = [{**first, "label": f"{n} {'very ' * 40}"} for n in range(3000)]
    more = "".join(json.dumps(answer) + "\n" for answer in answers)
    file.write_text(shipped + more, encoding="utf-8")
    try:
        more_than_labels = ("data.max_length=256", "data.split.strategy=random")
        judged = Judged(project, base, tmp_path, *more_than_labels)
    finally:
        file.write_text(shipped, encoding="utf-8")
    report = judged.context.inputs["data"] / "data_report.json"
    assert report.stat().st_size < 1 << 20
    check.run(judged.context)
    assert any("answered in more than one way" in line for line in judged.said.lines)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (all_masked, "commands.jsonl:1: no token of the row is trained"),
        (prompt_trained, "480 of 480 rows train other text than their answer"),
        (stop_masked, "480 of 480 rows train other text than their answer"),
    ],
)
def test_a_wrong_mask_stops_before_training(
    project: Project, base: Path, tmp_path: Path, monkeypatch: Any, change: Any, says: str
) -> None:
    spoil(monkeypatch, change)
    error = Judged(project, base, tmp_path).refuses()
    assert error.code == Exit.BAD_DATA
    assert says in error.what


@pytest.mark.parametrize(
    ("overrides", "code", "says"),
    [
        (["data.template.prompt='<|im_start|><|im_start|>{text}'"], Exit.BAD_DATA, "BOS twice"),
        (["data.max_length=9", "data.too_long=drop"], Exit.BAD_DATA, "120 of 480 rows (25%)"),
        (["data.split.by=text"], Exit.BAD_DATA, "has 1 different prompts for 3 splits"),
    ],
)
def test_rows_that_cannot_be_trained_well_stop_before_training(
    project: Project, base: Path, tmp_path: Path, overrides: list[str], code: Exit, says: str
) -> None:
    error = Judged(project, base, tmp_path, *overrides).refuses()
    assert (error.code, says in error.what) == (code, True), error.what


def test_a_warning_is_said_and_stops_nothing(project: Project, base: Path, tmp_path: Path) -> None:
    judged = Judged(project, base, tmp_path, "data.template.prompt='{text} {label}'")
    check.run(judged.context)
    assert any(line.startswith("warning: ") for line in judged.said.lines)


def test_a_stop_token_that_generation_does_not_know_stops_before_training(
    project: Project, base: Path, tmp_path: Path
) -> None:
    """A chat template that closes turns with a token of its own, as Gemma's and Phi 3's do."""
    other = tmp_path / "base"
    shutil.copytree(base, other)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        if (other / name).is_file():
            text = (other / name).read_text(encoding="utf-8")
            closing = text.replace("<|im_end|>' + '", "<|endoftext|>' + '")
            (other / name).write_text(closing, encoding="utf-8")
    (project.recipes / "chat.yaml").write_text(
        "defaults: [model: tiny-llama, train: tiny, eval: text, target: [cpu-fp32], _self_]\n"
        "data:\n  name: chat\n  license: Apache-2.0\n  task: generation\n"
        "  source: {type: file, path: data/tiny/commands.jsonl}\n"
        "  template: {type: chat, user: '{text}', assistant: '{label}'}\n",
        encoding="utf-8",
    )
    error = Judged(project, other, tmp_path, recipe="chat").refuses()
    assert error.code == Exit.BAD_DATA
    assert "answers end with <|endoftext|> (0), generation stops at [2]" in error.what
