"""``init --data`` and ``new`` write what composes and is refuted nowhere, and overwrite nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile import api
from slmcompile.cli.main import main
from slmcompile.console.errors import Exit
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project
from slmcompile.recipe.yaml_file import read_yaml
from tests.own_files import FILES, cells

TICKETS = FILES["semicolons.csv"].content


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without anything, and the current folder."""
    root = tmp_path / "project"
    (root / "recipes").mkdir(parents=True)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_for_each_kind_of_file_is_planned_and_refuted_nowhere(
    name: str, project: Path, tmp_path: Path
) -> None:
    kind = FILES[name]
    (tmp_path / name).write_bytes(kind.content)
    said = ["--encoding", kind.encoding] if kind.encoding else []
    assert main(["new", "mine", "--data", str(tmp_path / name), *said]) == Exit.DONE
    assert (project / "data" / name).read_bytes() == kind.content
    for overrides in ([], ["model=trial", "train=tiny"]):
        planned = api.plan("mine", overrides, project=project)
        assert [each for each in planned.findings if each.blocks] == []
    recipe = compose(Project(project), "mine").recipe
    assert recipe.data.task == kind.task
    assert recipe.gates == ()
    assert recipe.train.over == "cpu-int4"


def test_init_says_what_it_saw_and_chose_and_leaves_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tickets.csv").write_bytes(TICKETS)
    assert main(["init", "my bot", "--data", "tickets.csv"]) == Exit.DONE
    said = capsys.readouterr().out
    for words in (
        "data/tickets.csv: CSV with semicolons; 30 rows; columns text, label\n",
        "classification: prompt from text, answer from label\n",
        "3 different answers: red, blue, green\n",
        "a rough guide",
        "metrics accuracy, f1_macro, perplexity\n",
        "--prompt COLUMN --answer COLUMN",
        "(1 kB) to data/tickets.csv\n",
        "wrote recipes/my-bot.yaml\n",
        "next: cd 'my bot' && slmcompile plan my-bot\n",
    ):
        assert words in said
    root = tmp_path / "my bot"
    assert {path.name for path in (root / "recipes").iterdir()} == {"my-bot.yaml"}
    for path in ("README.md", ".gitignore", "dvc.yaml", "schema/recipe.json", ".dvc/config"):
        assert (root / path).is_file()
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "slmcompile run my-bot\n" in readme.replace("   ", "\n").replace("  ", "\n")
    monkeypatch.chdir(root)
    assert main(["init", "--data", "data/tickets.csv"]) == Exit.USAGE
    assert "recipes/my-bot.yaml: exists" in capsys.readouterr().err


def test_rows_that_the_model_of_the_recipe_cannot_write_are_told_of(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calls.jsonl").write_bytes(FILES["calls.jsonl"].content)
    assert main(["new", "mine", "--data", str(tmp_path / "calls.jsonl")]) == Exit.DONE
    assert "rows hold tool_calls, tools, which the chat template" in capsys.readouterr().out
    recipe = (project / "recipes/mine.yaml").read_text(encoding="utf-8")
    assert "- model: smollm2-135m  # writes no tool_calls, tools\n" in recipe


def test_a_file_of_the_project_stays_where_it_is(project: Path) -> None:
    (project / "rows").mkdir()
    (project / "rows" / "tickets.csv").write_bytes(TICKETS)
    assert main(["new", "mine", "--data", "rows/tickets.csv"]) == Exit.DONE
    assert not (project / "data").exists()
    written = read_yaml(project / "conf/data/tickets.yaml", "conf/data/tickets.yaml")
    assert written.content["source"] == {"type": "file", "path": "rows/tickets.csv"}


def test_nothing_is_overwritten_and_nothing_is_half_written(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tickets.csv").write_bytes(TICKETS)
    for path in ("recipes/mine.yaml", "conf/data/tickets.yaml", "data/tickets.csv"):
        there = project / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text("name: ours\n", encoding="utf-8")
        before = sorted(project.rglob("*"))
        assert main(["new", "mine", "--data", str(tmp_path / "tickets.csv")]) == Exit.USAGE
        assert f"{path}: exists" in capsys.readouterr().err
        assert there.read_text(encoding="utf-8") == "name: ours\n"
        assert sorted(project.rglob("*")) == before
        there.unlink()
    assert main(["new", "mine", "--data", str(tmp_path / "tickets.csv")]) == Exit.DONE


def test_a_recipe_that_does_not_compose_leaves_nothing(project: Path, tmp_path: Path) -> None:
    """Here for a group of the project's own that the recipe takes."""
    (project / "conf" / "train").mkdir(parents=True)
    (project / "conf" / "train" / "lora.yaml").write_text("method: none\n", encoding="utf-8")
    (tmp_path / "tickets.csv").write_bytes(TICKETS)
    before = {path for path in project.rglob("*") if path.is_file()}
    assert main(["new", "mine", "--data", str(tmp_path / "tickets.csv")]) == Exit.BAD_RECIPE
    assert {path for path in project.rglob("*") if path.is_file()} == before


def test_a_further_recipe_takes_the_data_that_is_described(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "mine"]) == Exit.USAGE
    assert "slmcompile new mine --data FILE" in capsys.readouterr().err
    (tmp_path / "tickets.csv").write_bytes(TICKETS)
    assert main(["new", "mine", "--data", str(tmp_path / "tickets.csv")]) == Exit.DONE
    group = (project / "conf/data/tickets.yaml").read_bytes()
    assert main(["new", "second"]) == Exit.DONE
    assert main(["new", "third", "--data", "data/tickets.csv"]) == Exit.DONE
    assert (project / "conf/data/tickets.yaml").read_bytes() == group
    said = ["--prompt", "label", "--answer", "text"]
    assert main(["new", "otherwise", "--data", "data/tickets.csv", *said]) == Exit.USAGE
    assert "conf/data/tickets.yaml: exists" in capsys.readouterr().err
    found = [compose(Project(project), name).recipe for name in ("mine", "second", "third")]
    assert found[0].data == found[1].data == found[2].data
    (tmp_path / "boxes.csv").write_bytes(TICKETS)
    assert main(["new", "fourth", "--data", str(tmp_path / "boxes.csv")]) == Exit.DONE
    assert main(["new", "fifth"]) == Exit.USAGE
    assert "there are boxes, tickets" in capsys.readouterr().err


def test_groups_that_come_with_it_are_not_taken_over(project: Path, tmp_path: Path) -> None:
    """``text`` is an eval group of its own, which other recipes may name."""
    (tmp_path / "text.csv").write_bytes(TICKETS)
    assert main(["new", "mine", "--data", str(tmp_path / "text.csv")]) == Exit.DONE
    assert [path.name for path in (project / "conf" / "eval").iterdir()] == ["my-text.yaml"]


def test_columns_of_any_name_reach_the_template(project: Path, tmp_path: Path) -> None:
    rows = [
        {"{x.y}": f"first {n}", "a: b #": f"second {n}", "Wer? ": ("a", "b")[n % 2]}
        for n in range(30)
    ]
    (tmp_path / "odd.csv").write_bytes(cells(rows))
    words = ["--prompt", "{x.y}", "--prompt", "a: b #", "--answer", "Wer? "]
    assert main(["new", "mine", "--data", str(tmp_path / "odd.csv"), *words]) == Exit.DONE
    data = compose(Project(project), "mine").recipe.data
    assert sorted(data.columns.values()) == sorted(rows[0])
    assert data.split.by in data.columns
    planned = api.plan("mine", project=project)
    assert [each for each in planned.findings if each.blocks] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "Mine", "--data", "x.csv"], "not a recipe name"),
        (["new", "mine", "--prompt", "text"], "name it: --data FILE"),
        (["new", "mine", "--data", "x.csv", "--encoding", "utf9"], "did you mean"),
        (["new", "mine", "--data", "x.csv", "--delimiter", "::"], "--delimiter"),
        (["init", "--recipe", "tiny", "--data", "x.csv"], "exclude one another"),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    words: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "x.csv").write_bytes(TICKETS)
    assert main(words) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (project / "conf").exists()


def test_a_row_that_is_wrong_is_named_in_the_file_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was copied, so there is no data/rows.jsonl to look into."""
    rows = [f'{{"question": "q{at}", "answer": "a{at % 3}"}}' for at in range(9)]
    text = "\n".join([*rows, '{"question": "q", "answer": null}']) + "\n"
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "bot", "--data", "rows.jsonl"]) == 65
    assert capsys.readouterr().err.startswith("error: rows.jsonl:10: column 'answer' is null")
    assert not (tmp_path / "bot").exists()
