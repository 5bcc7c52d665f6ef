"""Workflows grant and start by what docs/pull-requests.md says, and hand a shell no expression."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from slmcompile.ci.proposal import read
from slmcompile.ci.workflow_files import FROM_CHECKOUT, github, gitlab, to_set_on_github
from slmcompile.cli.words import arguments_of
from slmcompile.console.errors import UsageError
from tests.projects import command, commit, make_repository, slmcompile

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "pull-requests.md").read_text(encoding="utf-8")
FILES = github("main")
BRANCH = "refs/heads/main"


def loaded(text: str) -> dict[str, Any]:
    """A workflow, with its ``on:``, which YAML 1.1 reads as true."""
    content = yaml.safe_load(text)
    return {"on" if key is True else key: value for key, value in content.items()}


WORKFLOWS = {Path(path).stem: loaded(text) for path, text in FILES.items()}
JOBS = {name: (job, each) for each in WORKFLOWS.values() for name, job in each["jobs"].items()}
STEPS = [(name, step) for name, (job, _) in JOBS.items() for step in job["steps"]]
USED = [(name, step) for name, step in STEPS if "uses" in step]
RUN = [(name, step) for name, step in STEPS if "run" in step]
TEXTS = [*FILES.values(), *gitlab().values()]


def table() -> dict[str, list[str]]:
    """The flow's table: a job's trigger, permissions, environment and the rest."""
    section = DOCUMENT.split("\n## The flow\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
    return {job: [cell.strip() for cell in cells.split("|")] for job, cells in rows}


TABLE = table()
EVENTS = {
    "pull_request",
    "merge_group",
    "workflow_run",
    "issue_comment",
    "push",
    "schedule",
    "workflow_dispatch",
}


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_this_repositorys_workflows_are_those_of_the_templates() -> None:
    """Else run tools/workflows."""
    own = github("main", FROM_CHECKOUT)
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")}
    assert there == set(own)
    assert {path: (ROOT / path).read_text(encoding="utf-8") for path in own} == own


def test_there_is_a_job_for_each_row() -> None:
    assert set(JOBS) == set(TABLE)
    assert len(TABLE) == 8


@pytest.mark.parametrize("job", JOBS)
def test_a_job_may_what_its_row_says_and_nothing_else(job: str) -> None:
    granted = {f"{scope}: {right}" for scope, right in JOBS[job][0]["permissions"].items()}
    assert granted == set(words(TABLE[job][1]))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_begins_with_no_right(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_started_by_what_its_row_says(job: str) -> None:
    content, workflow = JOBS[job]
    named = words(TABLE[job][0])
    if TABLE[job][0].startswith("after"):
        needed = content["needs"]
        assert named[0] in ([needed] if isinstance(needed, str) else needed)
    else:
        assert set(workflow["on"]) == {*named} & EVENTS
        assert "needs" not in content


def test_triggers_are_no_wider_than_they_must_be() -> None:
    """A label, an edited comment, another branch, a run of another workflow: none starts a job."""
    assert WORKFLOWS["plan"]["on"] == {
        "pull_request": {"types": ["opened", "synchronize", "reopened"], "branches": ["main"]},
        "merge_group": {"types": ["checks_requested"], "branches": ["main"]},
    }
    run = {"workflows": [WORKFLOWS["plan"]["name"]], "types": ["completed"]}
    assert WORKFLOWS["comment"]["on"] == {"workflow_run": run}
    assert WORKFLOWS["train"]["on"] == {"issue_comment": {"types": ["created"]}}
    assert WORKFLOWS["promote"]["on"] == {"push": {"branches": ["main"]}}
    assert not [text for text in TEXTS if "pull_request_target" in text]


@pytest.mark.parametrize("job", JOBS)
def test_an_environment_is_where_its_row_has_one(job: str) -> None:
    named = words(TABLE[job][2])[:1]
    assert [JOBS[job][0][key] for key in ("environment",) if key in JOBS[job][0]] == [
        name for name in named if name in {"train", "push", "promote"}
    ]


@pytest.mark.parametrize("job", JOBS)
def test_secrets_are_those_of_an_environment(job: str) -> None:
    content = JOBS[job][0]
    assert ("secrets." in str(content)) == ("environment" in content)
    outside = {key: value for key, value in content.items() if key != "steps"}
    assert "secrets." not in str(outside)
    assert "secrets" not in str([step for step in content["steps"] if "uses" in step])


@pytest.mark.parametrize(("job", "step"), USED)
def test_actions_are_pinned_by_a_commit_whose_version_is_said(
    job: str, step: dict[str, Any]
) -> None:
    action, _, pin = step["uses"].partition("@")
    assert action in {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
    assert re.fullmatch(r"[0-9a-f]{40}", pin)
    said = re.compile(rf"{action}@{pin} # v\d+\.\d+\.\d+$", re.MULTILINE)
    assert all(said.search(text) for text in TEXTS if f"{action}@{pin}" in text)


@pytest.mark.parametrize("job", JOBS)
def test_only_the_target_is_checked_out_and_no_credential_stays(job: str) -> None:
    checkouts = [
        step["with"]
        for step in JOBS[job][0]["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert checkouts == [
        {
            "ref": "${{ github.sha }}" if job == "promote" else BRANCH,
            "fetch-depth": 0,
            "persist-credentials": False,
            "submodules": False,
            "lfs": False,
        }
    ]


@pytest.mark.parametrize(("job", "step"), RUN)
def test_no_expression_is_in_a_script(job: str, step: dict[str, Any]) -> None:
    assert "${{" not in step["run"]
    assert step.get("shell") is None


SAID_BY_THE_HOST = {
    "github.token",
    "github.event.pull_request.head.sha || github.event.merge_group.head_sha",
    # Outputs of `ci authorise` and `ci train`: a digest, a number and a line in their own words.
    "needs.authorise.outputs.refused",
    "needs.train.outputs.code",
    "needs.train.outputs.record",
}


@pytest.mark.parametrize(("job", "step"), RUN)
def test_a_script_is_given_hashes_tokens_and_secrets_alone(job: str, step: dict[str, Any]) -> None:
    values = [str(value) for value in step.get("env", {}).values()]
    told = {re.fullmatch(r"\$\{\{ (.*) \}\}", value)[1] for value in values}
    assert not {value for value in told if not value.startswith("secrets.")} - SAID_BY_THE_HOST


@pytest.mark.parametrize(
    ("job", "script"),
    [(job, step["run"]) for job, step in RUN if '/slmcompile"' in step["run"]],
)
def test_a_job_calls_the_command_of_its_name_as_the_command_line_takes_it(
    job: str, script: str
) -> None:
    called = [word.replace("$HEAD", "a" * 40) for word in shlex.split(script)]
    assert called[0] == "$RUNNER_TEMP/tool/bin/slmcompile"
    arguments = arguments_of(called[1:])
    assert (arguments.command, arguments.job) == ("ci", job)


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_cached(text: str) -> None:
    used = re.sub(r"#.*", "", text)
    for way in ("actions/cache", "cache:", "cache-dependency-path", "restore-keys"):
        assert way not in used
    assert used.count("install --quiet --no-cache-dir ") == used.count("/pip")


@pytest.mark.parametrize("job", JOBS)
def test_every_job_ends_by_itself(job: str) -> None:
    assert 5 <= JOBS[job][0]["timeout-minutes"] <= 360


def test_one_training_of_a_pull_request_at_a_time_which_nothing_cancels() -> None:
    train = JOBS["train"][0]["concurrency"]
    assert train["group"].endswith(
        "${{ needs.authorise.outputs.asked == 'true' && needs.authorise.outputs.number"
        " || github.run_id }}"
    )
    assert train["cancel-in-progress"] is False
    # One for all comments would have any comment take the place of a training that waits.
    assert "concurrency" not in WORKFLOWS["train"]
    comment = WORKFLOWS["comment"]["concurrency"]
    assert "workflow_run.head_repository.id" in comment["group"]
    assert comment["cancel-in-progress"] is False


ASKED = "needs.authorise.outputs.asked == 'true'"
ANSWERED = "needs.authorise.outputs.number != ''"


NOT_REFUSED = "needs.authorise.outputs.refused == ''"


def test_push_follows_what_was_approved_even_where_it_failed() -> None:
    push, train = JOBS["push"][0], JOBS["train"][0]
    assert push["needs"] == ["authorise", "train"]
    assert push["if"] == f"${{{{ !cancelled() && {ASKED} && {NOT_REFUSED} }}}}"
    # Whoever asks, also who is refused, is answered where nothing can be taken.
    assert JOBS["answer"][0]["if"] == f"${{{{ !cancelled() && {ANSWERED} }}}}"
    assert train["needs"] == "authorise"
    assert train["if"] == f"{ASKED} && {NOT_REFUSED}"


def test_what_is_handed_on_is_a_jobs_output_and_no_artifact() -> None:
    uploads = [name for name, step in USED if "upload-artifact" in step["uses"]]
    assert uploads == ["plan"]
    for job in ("authorise", "train"):
        content = JOBS[job][0]
        made = [step for step in content["steps"] if step.get("id") == job]
        assert len(made) == 1
        assert made[0]["run"].strip().endswith(f'slmcompile" ci {job}')
        for name, value in content["outputs"].items():
            assert value == f"${{{{ steps.{job}.outputs.{name} }}}}"


def test_an_exception_of_the_linter_stands_below_its_reason() -> None:
    for text in FILES.values():
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if "zizmor: ignore" in line:
                above, below = lines[number - 1].strip(), lines[number + 1].strip()
                assert above.startswith("#") or below.startswith("#")


def test_every_name_that_an_owner_has_to_set_is_said() -> None:
    told = " ".join(to_set_on_github("main"))
    section = DOCUMENT.split("\n## Set it up\n")[1].split("\n## ")[0]
    secrets = set(re.findall(r"secrets\.(\w+)", "".join(FILES.values())))
    assert secrets == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SLMCOMPILE_SIGNING_KEY"}
    for name in {*secrets, "train", "push", "promote", "Plan"}:
        assert name in told
        assert name in section
    assert JOBS["plan"][0]["name"] == "Plan"


@pytest.mark.parametrize("branch", ["release/**", "a b", "ma'in", "-x", 'x"', "$(id)", "a\nb", ""])
def test_a_branch_that_is_a_pattern_or_ends_a_text_is_refused(branch: str) -> None:
    with pytest.raises(UsageError, match="default branch"):
        github(branch)


def test_another_default_branch_is_in_every_trigger_and_checkout() -> None:
    files = github("trunk/1.0")
    assert loaded(files[".github/workflows/promote.yml"])["on"] == {
        "push": {"branches": ["trunk/1.0"]}
    }
    for text in files.values():
        assert "refs/heads/main" not in text
        assert ("refs/heads/trunk/1.0" in text) != ("github.sha }}\n          fetch" in text)


def test_the_plan_job_plans_a_commit_that_it_never_checks_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own lines, in a clone of the target that lacks what a fork proposes."""
    upstream = make_repository(tmp_path / "upstream")
    command(upstream, "git", "checkout", "-q", "-B", "main")
    slmcompile(upstream, "sync", "--all")
    commit(upstream, "generated")
    command(upstream, "git", "checkout", "-q", "-b", "proposed")
    with (upstream / "recipes" / "tiny.yaml").open("a", encoding="utf-8") as stream:
        stream.write("gates:\n- {metric: accuracy, min: 0.5}\n")
    (upstream / "recipes" / "here.txt").write_text("must not be checked out\n", encoding="utf-8")
    slmcompile(upstream, "sync", "--all")
    commit(upstream, "a bar")
    head = command(upstream, "git", "rev-parse", "HEAD").stdout.strip()
    command(upstream, "git", "checkout", "-q", "main")
    command(upstream, "git", "update-ref", "refs/pull/1/head", head)
    command(upstream, "git", "branch", "-q", "-D", "proposed")
    clone = tmp_path / "clone"
    command(tmp_path, "git", "clone", "-q", upstream.as_uri(), str(clone))
    binaries = tmp_path / "tool" / "bin"
    binaries.mkdir(parents=True)
    program = binaries / "slmcompile"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m slmcompile "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.setenv("HEAD", head)
    monkeypatch.setenv("TOKEN", "none")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    scripts = [step["run"] for job, step in RUN if job == "plan"]
    assert len(scripts) == 3
    assert "pip" in scripts[0]
    for script in scripts[1:]:
        command(clone, "bash", "-e", "-o", "pipefail", "-c", script)
    proposal = read((tmp_path / "proposal.json").read_bytes(), "proposal.json")
    assert proposal.head == head
    assert [entry.recipe for entry in proposal.recipes] == ["tiny"]
    assert not (clone / "recipes" / "here.txt").exists()
    assert command(clone, "git", "status", "--porcelain").stdout == ""


def test_on_gitlab_no_job_of_a_merge_request_has_an_environment() -> None:
    text = gitlab()[".gitlab-ci.yml"]
    content = yaml.safe_load(text)
    assert "not tried on a GitLab" in text
    assert "environment" not in content["plan"]
    assert content["plan"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]
    rule = content["train"]["rules"]
    assert len(rule) == 1
    assert rule[0]["when"] == "manual"
    assert "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH" in rule[0]["if"]
    assert content["train"]["environment"] == "train"
    assert content["plan"]["variables"]["GIT_CHECKOUT"] == "false"
