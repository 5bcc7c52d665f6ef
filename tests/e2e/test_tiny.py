"""The whole way on a 0.1-million-parameter model: what runs, what does not, and what comes out.

The tests of this module go through one project in order, as a person would.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from slmcompile.files import artifact
from slmcompile.recipe.policy import FILE
from slmcompile.recipe.project import Project
from tests.projects import REPOSITORY, command, commit, environment, make_repository, slmcompile
from tests.workplace import Workplace

NODE = REPOSITORY / "tests" / "node" / "node_modules"
ANSWERS = {"answer-base", "answer-baselines", "answer-cpu-fp32", "answer-torch"}
EVALUATIONS = {*ANSWERS, "score"}
ALL = {"base", "data", "check", "train", "export-cpu-fp32", *EVALUATIONS, "report", "gate"}
PASSING = (
    "[{metric: exact_match, min: 0.8}, {metric: exact_match, artifact: cpu-fp32, max_drop: 0.01}]"
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(make_repository(tmp_path_factory.mktemp("project").resolve()))


def test_a_run_measures_a_model_that_learnt_its_task(work: Workplace) -> None:
    assert set(work.plan().values()) == {"run"}
    done = work.run("run", "tiny", "--json")
    assert work.ran() == ALL
    assert json.loads(done.stdout)["artifacts"]["cpu-fp32"]["exact_match"] >= 0.9
    assert "tiny/train: step" in done.stderr
    training = json.loads((work.root / "pipelines/tiny/metrics/train.json").read_text())
    assert training["train_loss_last"] < 0.5 * training["train_loss_first"]
    assert not [name for name in training if name.endswith(("seconds", "per_second", "bytes"))]
    # Four labels: chance is 0.25, and a model that sees the wrong tokens stays near it.
    assert work.metrics("torch")["exact_match"] >= 0.9
    assert work.metrics("base")["exact_match"] <= 0.3
    exported = work.metrics("cpu-fp32")
    assert exported["exact_match"] == work.metrics("torch")["exact_match"]
    assert exported["cut_off"] == 0.0
    assert json.loads(done.stdout)["artifacts"]["cpu-fp32"]["agreement"] == 1.0
    assert exported["perplexity"] == pytest.approx(work.metrics("torch")["perplexity"], rel=1e-3)


def test_dvc_draws_the_curve(work: Workplace) -> None:
    drawn = json.loads(command(work.root, "dvc", "plots", "show", "--json").stdout)["data"]
    (found,) = next(plot for name, plot in drawn.items() if name.endswith("loss"))
    points = found["content"]["data"]["values"]
    curve = json.loads((work.root / "pipelines/tiny/plots/train.json").read_text())["curve"]
    for name in ("loss", "eval_loss"):
        values = [point["dvc_inferred_y_value"] for point in points if point["field"] == name]
        assert values == [point[name] for point in curve]
    assert sum(point["eval_loss"] is not None for point in curve) > 3


def test_every_artifact_is_whole_and_says_what_is_in_it(work: Workplace) -> None:
    folders = [path.parent for path in (work.root / "outputs").rglob("manifest.json")]
    assert len(folders) == len(ALL)
    for folder in folders:
        assert artifact.verify(folder)["files"]
    report = (work.root / "outputs/tiny/report/report.html").read_text(encoding="utf-8")
    assert "cpu-fp32" in report
    assert "http://" not in report.replace("http://www.w3.org", "")


def test_a_second_run_runs_nothing(work: Workplace) -> None:
    assert set(work.plan().values()) == {"unchanged"}
    done = work.run("run", "tiny")
    assert work.ran() == set()
    assert "slmcompile generate tiny --target cpu-fp32" in done.stdout
    assert work.run("plan", "tiny", "--detailed-exitcode").returncode == 0


def test_no_machine_path_is_in_a_committed_file(work: Workplace) -> None:
    for path in (work.root / "pipelines").rglob("*"):
        if path.is_file():
            assert str(work.root) not in path.read_text(encoding="utf-8"), path


def test_an_evaluation_edit_reruns_evaluation_alone_and_its_revert_nothing(work: Workplace) -> None:
    expected = dict.fromkeys(ALL, "unchanged")
    expected |= dict.fromkeys(("check", *EVALUATIONS, "report", "gate"), "run")
    assert work.plan("eval.limit=20") == expected
    work.run("run", "tiny", "eval.limit=20")
    assert work.ran() == {"check", *EVALUATIONS, "report", "gate"}
    limited = work.metrics("torch")
    assert (limited["rows"], limited["test_rows"]) == (20, 72)
    assert limited["labels"] == limited["test_labels"]
    report = (work.root / "outputs/tiny/report/report.md").read_text(encoding="utf-8")
    assert "Measured on 20 of 72 test rows, " in report
    reverted = work.plan()
    assert {stage for stage, action in reverted.items() if action == "run"} == set()
    assert {s for s, action in reverted.items() if action == "restore"} >= EVALUATIONS
    work.run("run", "tiny")
    assert work.ran() == set()
    assert work.metrics("torch")["rows"] > 20


def test_a_selection_runs_those_stages_alone_and_claims_no_results(work: Workplace) -> None:
    selected = ["--select", "answer-baselines"]
    done = work.run("run", "tiny", "eval.limit=10", *selected)
    assert work.ran() == {"answer-baselines"}
    assert "the report was not selected" in done.stdout
    assert "report  " not in done.stdout
    assert "torch" not in done.stdout
    stale = ["train.learning_rate=1e-3", "--select", "answer-torch"]
    done = work.run("run", "tiny", *stale, code=Exit.STALE)
    assert "tiny/train is missing or out of date" in done.stderr
    work.run("run", "tiny")
    assert work.ran() == set(), "the earlier runs are in the run-cache"
    done = work.run("run", "tiny", "--select", "report")
    assert "report  outputs/tiny/report/report.html" in done.stdout
    assert "try     " not in done.stdout, "nothing was measured in this run"


def test_a_saved_plan_runs_once_as_it_was_planned(work: Workplace) -> None:
    # Not the gates of a later test, which would find them in the run-cache.
    gates = "gates=[{metric: exact_match, min: 0.7}]"
    work.run("plan", "tiny", gates, "--out", "plan.json")
    assert "~ tiny/gate" in work.run("show", "plan.json").stdout
    why = work.run("why", "tiny/gate", gates).stdout
    assert "tiny/gate will run, because" in why
    assert "gates none → exact_match of torch ≥ 0.7" in why
    assert "tiny/train is unchanged" in work.run("why", "tiny/train", gates).stdout
    done = work.run("apply", "plan.json")
    assert work.ran() >= {"report", "gate"}
    assert not work.ran()
    assert "slmcompile generate tiny" in done.stdout
    done = work.run("apply", "plan.json", code=Exit.STALE)
    assert "since the plan was made" in done.stderr
    work.run("run", "tiny")
    assert work.ran() == set()


def test_a_learning_rate_override_retrains_on_the_same_data(work: Workplace) -> None:
    done = work.run("plan", "tiny", "train.learning_rate=2e-3")
    line = next(line for line in done.stdout.splitlines() if "tiny/train" in line)
    assert "will train" in line
    assert "train.learning_rate" in line
    before = work.adapter()
    work.run("run", "tiny", "train.learning_rate=2e-3")
    ran = work.ran()
    assert "train" in ran
    assert not ran & {"base", "data", "answer-base", "answer-baselines"}
    assert work.adapter() != before
    assert "train.learning_rate=2e-3" in (work.root / "pipelines/tiny/overrides.yaml").read_text()
    work.run("run", "tiny")
    assert work.ran() == set(), "the earlier run is in the run-cache"
    assert work.adapter() == before


def test_a_cosmetic_edit_reruns_nothing(work: Workplace) -> None:
    work.run("run", "tiny", "train.logging_steps=1", "train.save_steps=7", "track=tensorboard")
    assert work.ran() == set()
    work.run("run", "tiny")


def test_dvc_repro_alone_follows_a_recipe_edit(work: Workplace) -> None:
    recipe = work.root / "recipes" / "tiny.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(
        text + "  metrics: [exact_match, accuracy, f1_macro, perplexity, normalised_match]\n",
        encoding="utf-8",
    )
    command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml")
    assert work.ran() == {"check", "score", "report", "gate"}, "another metric asks no model"
    recipe.write_text(text, encoding="utf-8")
    command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml")
    assert work.ran() == set()
    assert set(work.plan().values()) == {"unchanged"}


def test_dvc_repro_alone_judges_by_another_policy_and_trains_nothing(work: Workplace) -> None:
    policy = work.root / FILE
    text = policy.read_text(encoding="utf-8")
    policy.write_text(text.replace("max_bytes: null", "max_bytes: 100000000"), encoding="utf-8")
    command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml")
    assert work.ran() == {"check"}
    policy.write_text(text.replace("max_bytes: null", "max_bytes: 1"), encoding="utf-8")
    done = command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml", check=False)
    assert "the policy's max_bytes is 1" in done.stderr
    policy.write_text(text, encoding="utf-8")
    command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml")
    assert work.ran() == set()
    assert set(work.plan().values()) == {"unchanged"}


def test_dvc_repro_alone_says_when_sync_is_needed_and_keeps_the_last_good_plan(
    work: Workplace,
) -> None:
    recipe = work.root / "recipes" / "tiny.yaml"
    text = recipe.read_text(encoding="utf-8")
    spec = work.root / "pipelines" / "tiny" / "plan" / "train.json"
    good = spec.read_text(encoding="utf-8")
    for edit, says in (
        (text.replace("[cpu-fp32]", "[cpu-fp32, cpu-int8]"), "slmcompile sync tiny"),
        (text.replace("max_new_tokens: 8", "max_new_tokens: 9"), "slmcompile sync tiny"),
        (text + "tain: {}\n", "recipes/tiny.yaml"),
    ):
        recipe.write_text(edit, encoding="utf-8")
        done = command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml", check=False)
        assert done.returncode != 0
        assert says in done.stderr
        assert spec.read_text(encoding="utf-8") == good
    recipe.write_text(text, encoding="utf-8")
    command(work.root, "dvc", "repro", "pipelines/tiny/dvc.yaml")
    assert work.ran() == set()


def test_gates_fail_after_everything_was_written(work: Workplace) -> None:
    done = work.run(
        "run", "tiny", "gates=[{metric: perplexity, max: 1.0001}]", code=Exit.GATE_FAILED
    )
    assert "perplexity of torch is" in done.stderr
    assert "bar ≤ 1.0001" in done.stderr
    assert "cpu-fp32" in done.stdout  # the table stands all the same
    assert "≤ 1.0001" in (work.root / "outputs/tiny/report/report.md").read_text(encoding="utf-8")
    assert work.ran() == {"check", "report"}, "a gate that failed has not finished"
    again = work.run("plan", "tiny", "gates=[{metric: perplexity, max: 1.0001}]").stdout
    assert "failed here: 1 of 1 gates failed: perplexity of torch is" in again
    assert "✗ gate: perplexity of torch is" in work.run("show", "tiny").stdout
    passing = work.run("run", "tiny", f"gates={PASSING}")
    assert work.ran() == {"check", "report", "gate"}
    assert "gate passed" in passing.stdout
    work.run("run", "tiny")
    assert work.ran() == set()
    shutil.rmtree(work.root / "outputs/gates")
    work.run("run", "tiny")
    assert work.ran() == set(), "an empty folder is all that DVC keeps of a gate"
    drift = slmcompile(work.root, "drift", "tiny", check=False).stdout
    assert "outputs/gates" not in drift


def test_generate_answers_words_lines_and_rows(work: Workplace) -> None:
    answer = work.run("generate", "tiny", "switch", "off", "--target", "cpu-fp32", "the", "radio")
    assert (answer.stdout.strip(), answer.stderr) == ("off", "")
    assert work.run("generate", "tiny", "text=switch off the radio").stdout == answer.stdout
    whole = work.run("generate", "tiny", "switch off the radio", "--max-new-tokens", "1", "--json")
    document = json.loads(whole.stdout)
    assert document["values"] == {"text": "switch off the radio"}
    assert (document["tokens"], document["cut_off"], whole.stderr) == (1, False, "")
    rows = work.root / "rows.jsonl"
    rows.write_text('{"text": "raise the blind", "label": "?"}\n{"text": "turn on my lamp"}\n')
    assert work.run("generate", "tiny", "--file", "rows.jsonl").stdout.split() == ["up", "on"]
    piped = ["generate", "tiny"]
    assert said(work, piped, "raise the blind\nturn on my lamp\n").split() == ["up", "on"]
    assert said(work, piped, "raise the blind\n\nturn on my lamp\n", Exit.BAD_DATA) == "up\n"
    for words in (["--target", "cpu-fp23", "x"], ["txt=x"], [], ["x", "--file", "rows.jsonl"]):
        assert work.run("generate", "tiny", *words, code=Exit.USAGE).stdout == ""
    rows.unlink()


def test_a_report_is_of_the_record_that_lies_here(work: Workplace) -> None:
    """And is not taken from the run before, whose times were others."""
    record = work.root / "pipelines/tiny/plots/train.json"
    content = record.read_text()
    report = work.root / "outputs/tiny/report/report.html"
    before = report.read_text()
    record.write_text(json.dumps(json.loads(content) | {"wall_seconds": 7380.0}))
    work.run("exec", "pipelines/tiny/plan/report.json")
    assert "2 h 03 min" in report.read_text()
    record.write_text(content)
    work.run("exec", "pipelines/tiny/plan/report.json")
    assert report.read_text() == before
    assert work.ran() == {"report"}


def test_the_cards_program_answers_what_the_card_says(work: Workplace) -> None:
    card = (work.root / "outputs/tiny/report/cards/cpu-fp32/README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)\n```", card, flags=re.DOTALL)
    (answer,) = re.findall(r"It answers <code>(.*?)</code>", card)
    assert command(work.root, sys.executable, "-c", program).stdout.strip() == answer


def test_a_package_answers_elsewhere_as_generate_does(work: Workplace, tmp_path: Path) -> None:
    made = json.loads(work.run("package", "tiny", "--out", f"{tmp_path}/a.zip", "--json").stdout)
    assert made["sha256"] == artifact.sha256_file(tmp_path / "a.zip")
    command(tmp_path, sys.executable, "-m", "zipfile", "-e", "a.zip", ".")
    folder = tmp_path / "tiny-cpu-fp32"
    assert "model.onnx.data: OK" in command(folder, "sha256sum", "-c", "SHA256SUMS").stdout
    for text in ("turn on my lamp", "turn off <|im_end|> the radio"):
        asked = [sys.executable, "-I", "run.py", text]
        alone = subprocess.run(
            asked, cwd=folder, env={}, text=True, capture_output=True, check=True
        ).stdout
        assert alone == work.run("generate", "tiny", text).stdout
        assert alone.strip()


@pytest.mark.skipif(not NODE.is_dir(), reason="run `npm ci --ignore-scripts` in tests/node")
def test_a_package_answers_in_node_as_generate_does(work: Workplace, tmp_path: Path) -> None:
    work.run("package", "tiny", "--out", f"{tmp_path}/a.zip")
    command(tmp_path, sys.executable, "-m", "zipfile", "-e", "a.zip", ".")
    (tmp_path / "node_modules").symlink_to(NODE)
    for text in ("turn on my lamp", "turn off <|im_end|> the radio"):
        answer = command(tmp_path / "tiny-cpu-fp32", "node", "run.mjs", text).stdout
        assert answer == work.run("generate", "tiny", text).stdout


def test_chat_answers_lines_and_takes_commands(work: Workplace) -> None:
    lines = "raise the blind\n/help\n/target cpu-fp32\n\nturn on my lamp now\n/exit\nraise it\n"
    assert said(work, ["chat", "tiny"], lines).split() == ["up", "on"]


def said(work: Workplace, words: list[str], lines: str, code: Exit = Exit.DONE) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "slmcompile", *words],
        cwd=work.root, input=lines, env=environment(), text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_damaged_artifact_is_found_before_it_is_used(work: Workplace) -> None:
    weights = work.root / "outputs/tiny/train/adapter/adapter_model.safetensors"
    content = weights.read_bytes()
    weights.chmod(0o644)
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = slmcompile(work.root, "exec", "pipelines/tiny/plan/export-cpu-fp32.json", check=False)
    assert done.returncode == Exit.CORRUPT
    assert "adapter_model.safetensors" in done.stderr
    assert (work.root / "outputs/tiny/export-cpu-fp32/model.onnx").is_file()
    command(work.root, "dvc", "checkout", "--force", "pipelines/tiny/dvc.yaml")
    assert weights.read_bytes() == content


def test_the_api_plans_and_runs_what_the_command_line_does(work: Workplace) -> None:
    import slmcompile as api

    planned = api.plan("tiny", ["train.seed=3"], project=work.root)
    assert {c.stage.name for c in planned.changes if c.action == "run"} >= {"train"}
    with pytest.raises(api.SlmcompileError) as caught:
        api.compile("tiny", ["train.sed=3"], project=work.root)
    assert caught.value.code == Exit.BAD_RECIPE
    result = api.run("tiny", project=work.root)
    assert {artifact.name for artifact in result.artifacts} >= {"torch", "cpu-fp32", "base"}
    assert result.report is not None
    assert result.report.is_file()
    assert work.ran() == set()


def test_a_fresh_clone_reproduces_the_same_bytes_with_dvc_repro_alone(
    work: Workplace, tmp_path: Path
) -> None:
    (work.root / "recipes" / "quickstart.yaml").unlink()
    commit(work.root, "ran")
    clone = tmp_path / "clone"
    command(tmp_path, "git", "clone", "--quiet", str(work.root), str(clone))
    fresh = Workplace(clone.resolve())
    command(fresh.root, "dvc", "repro")
    assert fresh.ran() == ALL
    assert fresh.adapter() == work.adapter()
    for name in ("train", "export-cpu-fp32"):
        one, two = (artifact.read_manifest(w.root / "outputs/tiny" / name) for w in (work, fresh))
        assert one["files"] == two["files"]
    overview = (fresh.root / "outputs" / "overview.html").read_text(encoding="utf-8")
    assert "tiny/report/report.html" in overview
    changed = command(fresh.root, "git", "status", "--porcelain").stdout.split()
    assert not [path for path in changed if path.endswith((".yaml", "plan/train.json"))]
    # A second recipe leaves the root's lock alone: two pull requests that add one each must merge.
    lock = (fresh.root / "dvc.lock").read_bytes()
    shutil.copyfile(fresh.root / "recipes/tiny.yaml", fresh.root / "recipes/second.yaml")
    fresh.run("sync", "second")
    command(fresh.root, "dvc", "repro")
    assert {path.name for path in (fresh.root / "outputs/gates").iterdir()} == {"second", "tiny"}
    assert (fresh.root / "dvc.lock").read_bytes() == lock


def test_kill_in_the_middle_of_training_resumes_to_the_same_bytes(
    work: Workplace, tmp_path: Path
) -> None:
    # Enough steps to be killed in; what is made of the adapter other tests look at.
    overrides = ["train.num_train_epochs=10", "train.save_steps=5", "--select", "+train"]
    work.run("run", "tiny", *overrides)
    work.ran()
    killed = Workplace(make_repository((tmp_path / "killed").resolve()))
    process = subprocess.Popen(
        [sys.executable, "-m", "slmcompile", "run", "tiny", *overrides],
        cwd=killed.root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    scratch = killed.root / ".slmcompile" / "scratch"
    deadline = time.monotonic() + 120
    while not list(scratch.glob("*/step-*/manifest.json")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed.root / "outputs/tiny/train").exists()
    wait_until_nothing_runs_in(killed.root)
    killed.run("run", "tiny", *overrides)
    training = json.loads((killed.root / "pipelines/tiny/plots/train.json").read_text())
    assert training["resumed_from"]
    assert killed.adapter() == work.adapter()


def wait_until_nothing_runs_in(folder: Path) -> None:
    """Stages die with the run that started them; a second later none may be left."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not processes_in(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {processes_in(folder)}")


def processes_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_two_runs_of_one_recipe_do_not_meet(work: Workplace) -> None:
    from slmcompile.state.locks import recipe_lock

    with recipe_lock(Project(work.root), "tiny"):
        done = work.run("run", "tiny", code=Exit.LOCKED)
    assert f"process {os.getpid()}" in done.stderr
