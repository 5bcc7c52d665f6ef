"""A loss of one's own, from a refused plan to the model card."""

from __future__ import annotations

import json

import pytest

from slmcompile.console.errors import Exit
from tests.loss_files import MINE, write_loss
from tests.projects import command, commit, make_repository
from tests.workplace import Workplace

CANARY = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    write_loss(root, MINE + CANARY)
    recipe = (root / "recipes/tiny.yaml").read_text()
    loss = "train:\n  loss: {type: python, file: losses/mine.py, name: FirstCounts}\n"
    (root / "recipes/mine.yaml").write_text(recipe + loss)
    commit(root, "a loss, and a recipe that asks for it")
    return Workplace(root)


def allow(work: Workplace, code: str) -> None:
    (work.root / "conf/policy/default.yaml").write_text(f"code: {code}\n")


def test_it_is_refused_allowed_executed_by_exec_alone_and_reported(work: Workplace) -> None:
    refused = work.run("plan", "mine", code=Exit.REFUSED)
    assert "a run would execute this file, and the policy's code does not name it" in (
        refused.stdout + refused.stderr
    )
    work.run("run", "mine", code=Exit.REFUSED)
    assert work.ran() == set()
    allow(work, "[losses/mine.py]")
    planned = work.run("plan", "mine").stdout
    assert (
        "The run will execute losses/mine.py, code of this project (recipes/mine.yaml:" in planned
    )
    work.run("why", "mine/train")
    executed = work.root / "losses" / "executed"
    assert not executed.exists(), "nothing but exec executes it"
    done = work.run("run", "mine")
    assert executed.exists()
    assert "executes losses/mine.py, code of this project" in done.stdout + done.stderr
    curve = json.loads((work.root / "pipelines/mine/plots/train.json").read_text())
    assert curve["objective"] == "FirstCounts of losses/mine.py"
    assert curve["train_loss_last"] < curve["train_loss_first"]
    assert all(point["cross_entropy"] < point["loss"] for point in curve["curve"])
    scores = json.loads((work.root / "outputs/mine/score/metrics.json").read_text())["artifacts"]
    assert scores["torch"]["exact_match"] > 0.9 > scores["base"]["exact_match"]
    report = (work.root / "outputs/mine/report/report.md").read_text()
    assert "by FirstCounts of losses/mine.py" in report
    page = (work.root / "outputs/mine/report/report.html").read_text()
    assert "Minimised: FirstCounts of losses/mine.py" in page
    assert "Cross entropy over optimizer steps" in page
    (card,) = (work.root / "outputs/mine/report/cards").rglob("*.md")
    assert "by FirstCounts of losses/mine.py" in card.read_text().replace("\\", "")
    assert not list(work.root.rglob("losses/**/__pycache__"))
    work.ran()


def test_another_byte_of_it_trains_again(work: Workplace) -> None:
    assert "execute" not in work.run("plan", "mine").stdout, "nothing would run"
    write_loss(work.root, (MINE + CANARY).replace("3.0", "4.0"))
    planned = work.run("plan", "mine").stdout
    (line,) = (line for line in planned.splitlines() if "mine/train " in line)
    assert "will train" in line
    assert "losses/mine.py changed" in line
    assert "losses/mine.py" in work.run("why", "mine/train").stdout
    assert "losses/mine.py" in work.run("diff", "mine@HEAD", "mine").stdout


def test_without_the_policys_leave_a_plain_dvc_repro_stops_before_it(work: Workplace) -> None:
    """Whoever runs the committed pipelines of somebody else plans nothing."""
    allow(work, "[]")
    (work.root / "losses" / "executed").unlink()
    done = command(work.root, "dvc", "repro", "pipelines/mine/dvc.yaml", check=False)
    assert done.returncode != 0
    assert "a run would execute this file" in done.stdout + done.stderr
    assert not (work.root / "losses" / "executed").exists()
