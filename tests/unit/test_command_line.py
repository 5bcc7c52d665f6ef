"""What the command line answers: to usage that cannot be, to programs, and at a terminal."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from slmcompile import api
from slmcompile.checks.judge import refusal
from slmcompile.cli.main import _carry_out, main
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.console.terminal import fitted
from slmcompile.explain.results import ArtifactResult
from slmcompile.recipe.project import Project
from tests.projects import make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    (root / "recipes" / "quickstart.yaml").unlink()
    monkeypatch.chdir(root)
    return Project(root)


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


# --- plan --all ------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--out=f.json", "--against=HEAD", "--deep", "--select=train"])
def test_what_is_of_one_recipe_does_not_go_with_all(
    project: Project, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["plan", "--all", option]) == Exit.USAGE
    said = capsys.readouterr()
    name = option.partition("=")[0]
    assert said.err.splitlines()[0].startswith(f"error: plan: {name} is of one recipe")
    assert said.err.splitlines()[1].startswith("  mend: name a recipe")
    assert said.out == ""
    assert not (project.root / "f.json").exists()


@pytest.mark.parametrize("name", ["X.yaml", "y.yml"])
def test_a_file_that_no_command_can_name_is_not_passed_over_in_silence(
    project: Project, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["plan", "--all"]) == Exit.DONE
    for other in (".tiny.yaml", "_base.yaml"):  # an editor's, and one for defaults lists
        (project.recipes / other).touch()
    assert main(["plan", "--all"]) == Exit.DONE
    assert capsys.readouterr().err == ""
    (project.recipes / name).touch()
    assert main(["plan", "--all"]) == Exit.DONE
    assert capsys.readouterr().err.startswith(f"note: recipes/{name} is not planned")


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["recipes/tiny.yaml", "./recipes/tiny.yaml", "tiny.yaml"])
def test_a_path_in_place_of_a_name_is_answered_with_the_name(
    project: Project, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    assert main(["plan", path]) == Exit.USAGE
    assert "did you mean 'tiny'?" in capsys.readouterr().err
    for words in (["diff", path, "tiny"], ["show", path], ["apply", path]):
        assert main(words) == Exit.USAGE
        said = capsys.readouterr().err
        assert f"error: {Path(path)}: a recipe's file and no plan file\n" in said
        assert "name the recipe 'tiny'" in said
    assert project.names() == ["tiny"]


@pytest.mark.parametrize(
    ("words", "what", "mend"),
    [
        (["pln", "tiny"], "slmcompile: 'pln' is no command", "did you mean 'plan'?"),
        (["frobnicate"], "slmcompile: 'frobnicate' is no command", "commands: plan, run, "),
        (["run"], "slmcompile run: name a recipe", "recipes are tiny: `slmcompile run tiny`"),
        (["show"], "slmcompile show: name a recipe", "recipes are tiny: `slmcompile show tiny`"),
        (
            ["plan", "tiny", "--aginst=HEAD"],
            "slmcompile plan: --aginst is not an option",
            "did you mean --against?",
        ),
        (
            ["run", "tiny", "--slect", "train"],
            "slmcompile run: --slect is",
            "did you mean --select",
        ),
        (["run", "tiny", "--xyz"], "slmcompile run: --xyz is", "see `slmcompile run --help`"),
        (["show", "tiny", "more"], "slmcompile show: more is one word", "see `slmcompile show"),
        (["generate", "tiny", "a", "--taget", "b"], "slmcompile generate: --taget", "did you mean"),
    ],
)
def test_what_is_misspelt_or_left_out_is_answered_with_the_word(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], what: str, mend: str
) -> None:
    assert main(words) == Exit.USAGE
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"error: {what}")
    assert said[1].startswith(f"  mend: {mend}")


def test_a_command_alone_where_no_recipe_is_says_how_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == Exit.USAGE
    assert "run `slmcompile init`" in capsys.readouterr().err


def test_the_module_lists_its_names_and_what_it_returns_is_one_short_line(project: Project) -> None:
    import slmcompile

    assert set(slmcompile.__all__) <= set(dir(slmcompile))
    planned = slmcompile.plan("tiny", ["train.seed=3"], project=project.root)
    result = api.RunResult(planned.plan, planned.changes, (), None)
    measured = ArtifactResult("torch", {"exact_match": 0.9, "size_bytes": 5e6}, None)
    assert repr(planned) == "<PlannedRun of tiny: 12 run>"
    assert repr(planned.plan) == f"<Plan {planned.plan.plan_id} of tiny train.seed=3: 12 stages>"
    assert repr(result) == "<RunResult of tiny: 12 run; measured nothing>"
    assert repr(measured) == "<ArtifactResult torch: size 5 MB, exact match 0.900>"


# --- for programs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["plan", "tyni", "--json"], Exit.BAD_RECIPE),
        (["plan", "tiny", "--json", "train.sed=1"], Exit.BAD_RECIPE),
        (["plan", "tiny", "--json", "--nonsense"], Exit.USAGE),
        (["run", "tiny", "--json", "train.lora.target_modules=[q_prj]"], Exit.BAD_RECIPE),
    ],
)
def test_a_program_that_asks_for_json_gets_the_error_as_json(
    project: Project, capfd: pytest.CaptureFixture[str], words: list[str], code: Exit
) -> None:
    assert main(words) == code
    said = capfd.readouterr()
    answer = json.loads(said.out)
    assert answer.keys() == {"format_version", "error"}
    assert answer["format_version"] == "2.0"
    assert answer["error"]["code"] == code
    assert f"error: {answer['error']['what']}\n  mend: {answer['error']['hint']}\n" in said.err
    assert project.names() == ["tiny"]


def test_a_refuted_plan_is_one_document_with_its_checks(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "tiny", "--json", "model.license=unknown"]) == Exit.BAD_RECIPE
    said = capsys.readouterr()
    (refuted,) = (each for each in json.loads(said.out)["checks"] if each["outcome"] == "refuted")
    assert refuted["exit_code"] == Exit.BAD_RECIPE
    assert refuted["evidence"] in said.err
    assert refuted["hint"] in said.err
    assert project.names() == ["tiny"]


# --- at a terminal ---------------------------------------------------------------------------


def test_long_lines_are_wrapped_at_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "  ? data will decide: " + ", ".join(["no-leak"] * 8) + "\n  = short  unchanged"
    assert fitted(text, io.StringIO()) == text
    assert fitted(text, Terminal()) == (
        "  ? data will decide: no-leak, no-leak,\n"
        "      no-leak, no-leak, no-leak,\n"
        "      no-leak, no-leak, no-leak\n"
        "  = short  unchanged"
    )


def test_a_column_is_wrapped_below_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert fitted("  1 name   C   the run goes on without a warning", Terminal()) == (
        "  1 name   C   the run goes on without a\n               warning"
    )


def test_at_a_terminal_what_refutes_a_plan_is_said_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Place and exit code are on standard error all the same."""

    def run(on_plan: Callable[[api.PlannedRun], None], **_: object) -> None:
        planned = api.plan("tiny", ["model.license=unknown"], project=project.root)
        on_plan(planned)
        error = refusal(planned.findings)
        assert error is not None
        raise error

    monkeypatch.setattr("sys.stdout", Terminal())
    where = "override 'model.license=unknown': model.license"
    assert main(["plan", "tiny", "model.license=unknown"]) == Exit.BAD_RECIPE
    said = capsys.readouterr().err
    assert said == f"error: {where}: refuted by allowed, as said above\n"
    with pytest.raises(SlmcompileError, match="refuted by allowed, as said above") as caught:
        _carry_out(run, Namespace(json=False, policy_from=None))
    assert caught.value.code == Exit.BAD_RECIPE
