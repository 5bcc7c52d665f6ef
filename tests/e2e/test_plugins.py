"""A metric of one's own: declared as data, allowed by the policy, imported by exec alone."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from slmcompile.console.errors import Exit, MissingError
from slmcompile.machine.container import require_containers
from tests.projects import commit, make_repository
from tests.workplace import Workplace

DECLARED = """\
format_version: "1.0"
metrics:
  letters:
    title: Letters right
    words: letters that are right
    needs: text
    program: measure:LETTERS
    of_task: true
"""
MEASURE = """\
from pathlib import Path

from slmcompile.scoring.measures import Share

from .canary import touch

touch()
FEWEST = int((Path(__file__).parent / "fewest.txt").read_text())
LETTERS = Share(
    lambda row: sum(a == b for a, b in zip(row["prediction"], row["reference"])) >= FEWEST
)
"""
CANARY = """\
from pathlib import Path


def touch() -> None:
    (Path(__file__).parents[2] / "imported").touch()
"""
ASKED = "eval.metrics=[exact_match,letters]"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    folder = root / "plugins" / "letters"
    folder.mkdir(parents=True)
    for name, text in (
        ("plugin.yaml", DECLARED),
        ("measure.py", MEASURE),
        ("canary.py", CANARY),
        ("fewest.txt", "1\n"),
    ):
        (folder / name).write_text(text)
    return Workplace(root)


def allow(work: Workplace, plugins: str) -> None:
    policy = work.root / "conf" / "policy" / "default.yaml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(f"plugins: {plugins}\n")


def scored(work: Workplace) -> dict[str, dict[str, float]]:
    text = (work.root / "outputs/tiny/score/metrics.json").read_text()
    return json.loads(text)["artifacts"]  # type: ignore[no-any-return]


def test_it_is_measured_gated_reported_and_imported_by_exec_alone(work: Workplace) -> None:
    refused = work.run("plan", "tiny", ASKED, code=Exit.BAD_RECIPE)
    assert "letters" in refused.stderr
    assert "plugins/letters" in refused.stderr, "what the policy does not name is named"
    allow(work, "[plugins/letters]")
    recipe = (work.root / "recipes/tiny.yaml").read_text()
    asking = f"{recipe}  metrics: [exact_match, letters]\n"
    (work.root / "recipes/asking.yaml").write_text(asking)
    commit(work.root, "a plug-in, and a recipe that asks for it")
    for words in (["plan", "tiny", ASKED], ["why", "tiny/score", ASKED], ["schema", "--write"]):
        work.run(*words)
    assert "letters" in (work.root / "schema" / "recipe.json").read_text()
    assert not (work.root / "imported").exists(), "nothing but exec imports it"
    gates = "gates=[{metric: letters, min: 0.5, max_drop: 0.5, artifact: cpu-fp32}]"
    done = work.run("run", "tiny", ASKED, gates)
    assert (work.root / "imported").exists()
    assert re.search(r"exact match +letters", done.stdout)
    assert "gate passed: letters" in done.stdout
    artifacts = scored(work)
    assert artifacts["torch"]["letters"] >= artifacts["torch"]["exact_match"] > 0.9
    assert artifacts["base"]["letters"] < 0.5
    report = (work.root / "outputs/tiny/report/report.md").read_text()
    assert "Letters right" in report
    assert not list(work.root.rglob("plugins/**/__pycache__"))
    work.ran()


def test_in_a_container_it_measures_the_same_and_writes_nowhere(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        require_containers()
    except MissingError:
        pytest.skip("bubblewrap does not work here")
    manifest = (work.root / "outputs/tiny/score/manifest.json").read_bytes()
    for folder in ("outputs/tiny/score", ".slmcompile/finished", ".slmcompile/kept"):
        shutil.rmtree(work.root / folder, ignore_errors=True)
    (work.root / "imported").unlink()
    monkeypatch.setenv("SLMCOMPILE_ISOLATE", "1")
    work.run("exec", "pipelines/tiny/plan/score.json")
    assert (work.root / "outputs/tiny/score/manifest.json").read_bytes() == manifest
    assert not (work.root / "imported").exists()
    assert work.ran() == {"score"}


def test_another_byte_of_it_scores_again_and_asks_no_model(work: Workplace) -> None:
    before = scored(work)["torch"]["letters"]
    (work.root / "plugins/letters/fewest.txt").write_text("4\n")
    planned = work.run("plan", "tiny", ASKED).stdout
    line = next(line for line in planned.splitlines() if "tiny/score" in line)
    assert "will score" in line
    assert "plugins/letters/fewest.txt" in work.run("why", "tiny/score", ASKED).stdout
    work.run("run", "tiny", ASKED)
    assert work.ran() == {"check", "score", "report", "gate"}, "check: the gates are gone too"
    assert scored(work)["torch"]["letters"] < before
    changed = work.run("diff", "asking@HEAD", "asking").stdout
    assert "plugins/letters/fewest.txt" in changed


def test_its_faults_are_told_as_its_own(work: Workplace) -> None:
    measure = work.root / "plugins/letters/measure.py"
    measure.write_text(MEASURE.replace('row["prediction"]', 'row["predicted"]'))
    failed = work.run("run", "tiny", ASKED, code=Exit.STAGE_FAILED)
    assert "plugins/letters: metric letters: value: KeyError: 'predicted'" in failed.stderr
    assert "Traceback" not in failed.stderr
    measure.write_text(MEASURE)
    allow(work, "[]")
    assert "letters" in work.run("plan", "tiny", ASKED, code=Exit.BAD_RECIPE).stderr
