"""What lies here is stated from its bytes, and held against what was stated."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from slmcompile.cli.main import main
from slmcompile.console.errors import CorruptError, Exit, SlmcompileError
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.files import artifact
from slmcompile.plans.definition import Plan
from slmcompile.provenance.check import (
    check_folder,
    check_outputs,
    check_plan,
    check_recipe,
    stage_of,
)
from slmcompile.provenance.envelope import Sealed, open_sealed, seal
from slmcompile.provenance.keys import FOLDER
from slmcompile.provenance.make import Asked, attest
from slmcompile.provenance.outputs import outputs
from slmcompile.provenance.statement import Statement
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from slmcompile.state.state import md5_file
from tests.finished_run import MEASURED, finish
from tests.projects import make_project
from tests.statements import private_pem, public_pem

TRAIN = "outputs/tiny/train"
WEIGHTS = f"{TRAIN}/weights"
GATES = "gates:\n  - {metric: exact_match, min: 0.5}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, of which tests have copies."""
    root = make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))
    (root / "recipes/quickstart.yaml").unlink()
    recipe = root / "recipes/tiny.yaml"
    recipe.write_text(recipe.read_text() + GATES)
    project = Project(root)
    finish(project, compile_recipe(project, "tiny"))
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture
def plan(project: Project) -> Plan:
    return compile_recipe(project, "tiny")


def sealed_of(statement: Statement) -> Sealed:
    return open_sealed(seal(statement, private_pem()), "x", [public_pem()])


@pytest.fixture
def sealed(project: Project, plan: Plan) -> Sealed:
    return sealed_of(attest(project, plan))


def code_of(work: Callable[[], object]) -> int:
    with pytest.raises(SlmcompileError) as caught:
        work()
    assert caught.value.mend
    return int(caught.value.code)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_what_lies_here_is_stated_with_all_that_it_was_made_from(
    project: Project, plan: Plan
) -> None:
    stated = attest(project, plan)
    assert (stated.recipe, stated.digest, stated.pull_request) == ("tiny", None, None)
    assert [each.stage for each in stated.stages] == [each.address for each in plan.stages()]
    assert {each.stage: each.fingerprint for each in stated.stages} == plan.fingerprints()
    train = stated.stage("train")
    folder = project.root / TRAIN
    assert train.manifest == artifact.sha256_file(folder / "manifest.json")
    assert train.size == sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    lock = yaml.safe_load((project.pipelines / "tiny/dvc.lock").read_text())["stages"]["train"]
    assert train.object == next(out["md5"] for out in lock["outs"] if out["path"] == TRAIN)
    assert stated.subjects == {
        f"{name}/{file}": artifact.sha256_file(project.root / "outputs/tiny" / name / file)
        for name in ("train", "export-cpu-fp32")
        for file in ("weights", "deeper/more")
    }
    assert stated.materials["recipes/tiny.yaml"] == artifact.sha256_file(
        project.root / "recipes/tiny.yaml"
    )
    assert any(path.startswith("data/tiny/") for path in stated.materials)
    assert stated.packages["torch"] == plan.stage("train").packages["torch"]
    assert [(each.text, each.passed) for each in stated.gates] == [
        ("exact_match of torch is 0.9, bar ≥ 0.5", True)
    ]
    assert stated.metrics["torch"] == {"exact_match": 0.9, "perplexity": 1.25}
    assert attest(project, plan) == stated


def test_who_asked_is_stated_as_the_caller_says(project: Project, plan: Plan) -> None:
    asked = Asked("d" * 64, "1" * 40, "2" * 40, 12, "octo")
    stated = attest(project, plan, asked)
    told = (stated.digest, stated.head, stated.base, stated.pull_request, stated.approver)
    assert told == ("d" * 64, "1" * 40, "2" * 40, 12, "octo")
    assert code_of(lambda: attest(project, plan, replace(asked, approver="a\nb"))) == Exit.CORRUPT


def test_a_group_states_each_adapter_by_its_name(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    (root / "conf/adapter/commands.yaml").write_text(
        "defaults:\n  - /data: tiny-commands\n  - /eval: structured\n"
        "eval: {max_new_tokens: 8, base_model: false, baselines: false}\n"
    )
    (root / "recipes/pair.yaml").write_text(
        "defaults:\n  - model: tiny-llama\n  - train: tiny\n  - adapter@adapters.one: commands\n"
        "  - adapter@adapters.two: commands\n  - target: [cpu-fp32]\n  - track: none\n  - _self_\n"
        "adapters: {two: {data: {seed: 7}}}\n"
        "gates:\n  - {adapter: two, metric: exact_match, min: 0.5}\n"
    )
    project = Project(root)
    plan = compile_recipe(project, "pair")
    finish(project, plan)
    stated = attest(project, plan)
    assert "train/adapters/two/manifest.json" in stated.subjects
    assert "export-cpu-fp32--one/weights" in stated.subjects
    assert [each.text for each in stated.gates] == ["two: exact_match of torch is 0.9, bar ≥ 0.5"]
    assert set(stated.metrics) == {"one/torch", "one/base", "two/torch", "two/base"}
    sealed = sealed_of(stated)
    assert "outputs/pair/train" in check_outputs(sealed, project, plan)
    shutil.copytree(root, tmp_path / "copy")
    # A part that agrees with itself and not with the whole.
    part = root / "outputs/pair/train/adapters/two"
    (part / "weights").write_text("evil")
    artifact.write_manifest(part, "train", {}, "two")
    assert code_of(lambda: attest(project, plan)) == Exit.CORRUPT
    assert code_of(lambda: check_outputs(sealed, project, plan)) == Exit.CORRUPT

    # A whole that agrees with itself, of which a part says still what exports were made from.
    other = Project(tmp_path / "copy")
    train = other.root / "outputs/pair/train"
    (train / "adapters/two/weights").write_text("evil")
    named = artifact.read_manifest(train)["fingerprint"]
    artifact.write_manifest(train, "train", {}, named)
    with pytest.raises(SlmcompileError, match="adapters/two: its manifest does not agree"):
        list(outputs(other, plan))


def a_byte(root: Path) -> None:
    data = bytearray((root / WEIGHTS).read_bytes())
    data[0] ^= 1
    write(root / WEIGHTS, bytes(data))


def forged(root: Path) -> None:
    """Other weights, and a manifest and a lock that fit."""
    a_byte(root)
    old = artifact.read_manifest(root / TRAIN)
    artifact.write_manifest(root / TRAIN, "train", {}, old["fingerprint"])


def fifo(root: Path) -> None:
    (root / WEIGHTS).unlink()
    os.mkfifo(root / WEIGHTS)


def a_socket(root: Path) -> None:
    (root / WEIGHTS).unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(root / TRAIN)  # such a name may be no longer than 107 bytes
        bound.bind("weights")
        os.chdir(here)


def a_link(root: Path) -> None:
    (root / WEIGHTS).rename(root / "weights")
    (root / WEIGHTS).symlink_to(root / "weights")


def a_linked_folder(root: Path) -> None:
    (root / TRAIN).rename(root / "train")
    (root / TRAIN).symlink_to(root / "train")


def a_linked_folder_below(root: Path) -> None:
    (root / TRAIN / "deeper").rename(root / "deeper")
    (root / TRAIN / "deeper").symlink_to(root / "deeper")


def a_linked_manifest(root: Path) -> None:
    (root / TRAIN / "manifest.json").rename(root / "manifest.json")
    (root / TRAIN / "manifest.json").symlink_to(root / "manifest.json")


def a_file_for_a_folder(root: Path) -> None:
    shutil.rmtree(root / TRAIN / "deeper")
    write(root / TRAIN / "deeper", b"x")


def of_another(root: Path) -> None:
    shutil.rmtree(root / TRAIN)
    shutil.copytree(root / "outputs/tiny/export-cpu-fp32", root / TRAIN)


DAMAGE: dict[str, tuple[Callable[[Path], object], set[int]]] = {
    "a byte": (a_byte, {Exit.CORRUPT}),
    "a byte more": (lambda r: write(r / WEIGHTS, (r / WEIGHTS).read_bytes() + b"x"), {74}),
    "a file less": (lambda r: (r / WEIGHTS).unlink(), {74}),
    "a file more": (lambda r: write(r / TRAIN / "more", b"x"), {74}),
    "a hidden file more": (lambda r: write(r / TRAIN / "deeper/.x", b"x"), {74}),
    "a folder more": (lambda r: (r / TRAIN / "empty").mkdir(), {74}),
    "a file for a folder": (a_file_for_a_folder, {74}),
    "no manifest": (lambda r: (r / TRAIN / "manifest.json").unlink(), {74}),
    "a manifest that is none": (lambda r: write(r / TRAIN / "manifest.json", b"[]"), {74}),
    "a manifest that is edited": (
        lambda r: write(
            r / TRAIN / "manifest.json", (r / TRAIN / "manifest.json").read_bytes() + b"\n"
        ),
        {74},
    ),
    "no folder": (lambda r: shutil.rmtree(r / TRAIN), {Exit.MISSING}),
    "another stage's folder": (of_another, {74}),
    "a FIFO": (fifo, {Exit.REFUSED}),
    "a socket": (a_socket, {77}),
    "a link": (a_link, {77}),
    "a linked folder": (a_linked_folder, {77}),
    "a linked folder below": (a_linked_folder_below, {77}),
    "a linked manifest": (a_linked_manifest, {77}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_changed_is_not_as_stated_nor_stated_anew(
    name: str, project: Project, plan: Plan, sealed: Sealed
) -> None:
    damage, codes = DAMAGE[name]
    damage(project.root)
    assert code_of(lambda: check_outputs(sealed, project, plan)) in codes
    assert code_of(lambda: attest(project, plan)) in codes


def test_a_forged_output_with_a_manifest_that_fits_is_not_as_stated(
    project: Project, plan: Plan, sealed: Sealed
) -> None:
    """And cannot be stated anew, since what was made from it names other bytes."""
    forged(project.root)
    assert code_of(lambda: check_outputs(sealed, project, plan)) == Exit.CORRUPT
    assert code_of(lambda: attest(project, plan)) == Exit.CORRUPT


def test_nor_is_one_that_nobody_ships(project: Project, plan: Plan, sealed: Sealed) -> None:
    scored = project.root / plan.stage("score").out
    old = artifact.read_manifest(scored)
    metrics = json.loads((scored / "metrics.json").read_text())
    metrics["artifacts"]["torch"]["exact_match"] = 0.8
    artifact.write_json(scored / "metrics.json", metrics)
    artifact.write_manifest(scored, "score", {}, old["fingerprint"])
    assert code_of(lambda: check_outputs(sealed, project, plan)) == Exit.CORRUPT


def test_a_gate_that_passed_on_something_else_is_not_finished(project: Project, plan: Plan) -> None:
    lock = project.pipelines / "tiny/dvc.lock"
    content = yaml.safe_load(lock.read_text())
    for dep in content["stages"]["gate"]["deps"]:
        if dep["path"] == plan.stage("score").out:
            dep["md5"] = f"{'0' * 32}.dir"
    lock.write_text(yaml.safe_dump(content))
    with pytest.raises(SlmcompileError, match="tiny/gate is not finished") as caught:
        attest(project, plan)
    assert caught.value.code == Exit.CORRUPT


def test_what_is_larger_than_stated_is_not_read(
    project: Project, sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(project.root / WEIGHTS, 1 << 40)
    monkeypatch.setattr("slmcompile.provenance.folder.file_hash", None)
    with pytest.raises(SlmcompileError, match="train: not of the size that is stated"):
        check_folder(sealed, "train", project.root / TRAIN)


def test_a_missing_file_is_called_missing(project: Project, sealed: Sealed) -> None:
    (project.root / WEIGHTS).unlink()
    with pytest.raises(SlmcompileError, match="train/weights: is missing"):
        check_folder(sealed, "train", project.root / TRAIN)


def test_a_lock_that_names_other_bytes_is_not_believed(project: Project, plan: Plan) -> None:
    lock = project.pipelines / "tiny/dvc.lock"
    content = yaml.safe_load(lock.read_text())
    stages = content["stages"]
    (report,) = (out for out in stages["report"]["outs"] if out["path"].startswith("outputs/"))
    (score,) = (out for out in stages["score"]["outs"] if out["path"].startswith("outputs/"))
    for dep in stages["gate"]["deps"]:
        dep["md5"] = score["md5"] if dep["md5"] == report["md5"] else dep["md5"]
    report["md5"] = score["md5"]
    lock.write_text(yaml.safe_dump(content))
    assert code_of(lambda: attest(project, plan)) == Exit.CORRUPT


def test_outputs_of_another_recipe_under_locks_that_fit_are_not_stated(project: Project) -> None:
    """Locks that were written to say that nothing has changed."""
    edited(project.root)
    now = compile_recipe(project, "tiny")
    sync(project, [now])
    for pipeline in now.pipelines:
        path = project.pipelines / pipeline.name / "dvc.lock"
        content = yaml.safe_load(path.read_text())
        for stage in pipeline.stages:
            for dep in content["stages"][stage.name]["deps"]:
                if dep["path"] == stage.spec_path:
                    dep["md5"] = md5_file(project.root / stage.spec_path)
        path.write_text(yaml.safe_dump(content))
    causes = {reason.cause for each in changes(project, now) for reason in each.reasons}
    assert not causes & {"key", "file", "package", "first_run"}, "the locks say nothing against it"
    with pytest.raises(SlmcompileError, match="train: its manifest is not of the work") as caught:
        attest(project, now)
    assert caught.value.code == Exit.CORRUPT


def edited(root: Path) -> None:
    recipe = root / "recipes/tiny.yaml"
    recipe.write_text(recipe.read_text() + "train: {learning_rate: 0.5}\n")


def other_rows(root: Path) -> None:
    file = root / "data/tiny/commands.jsonl"
    file.write_text(file.read_text().replace("lamp", "lantern"))


@pytest.mark.parametrize("edit", [edited, other_rows])
def test_of_a_recipe_that_has_changed_since_nothing_is_stated_and_nothing_holds(
    edit: Callable[[Path], None], project: Project, sealed: Sealed
) -> None:
    edit(project.root)
    now = compile_recipe(project, "tiny")
    assert code_of(lambda: attest(project, now)) == Exit.STALE
    assert code_of(lambda: check_plan(sealed, now)) == Exit.STALE
    assert code_of(lambda: check_outputs(sealed, project, now)) == Exit.STALE


def test_of_a_recipe_that_never_ran_nothing_is_stated(project: Project, plan: Plan) -> None:
    shutil.rmtree(project.pipelines)
    assert code_of(lambda: attest(project, plan)) == Exit.MISSING


def test_what_missed_a_bar_is_not_stated(project: Project, plan: Plan) -> None:
    finish(project, plan, {**MEASURED, "exact_match": 0.4})
    with pytest.raises(
        SlmcompileError, match=r"exact_match of torch is 0\.4, bar ≥ 0\.5"
    ) as caught:
        attest(project, plan)
    assert caught.value.code == Exit.GATE_FAILED


def test_a_statement_is_of_its_recipe_its_stage_and_its_digest(
    project: Project, plan: Plan, sealed: Sealed
) -> None:
    stated = sealed.statement
    other = sealed_of(replace(stated, recipe="other"))
    assert code_of(lambda: check_recipe(other, "tiny")) == Exit.CORRUPT
    assert code_of(lambda: check_outputs(other, project, plan)) == Exit.CORRUPT
    folder = project.root / TRAIN
    assert check_folder(sealed, "train", folder).stage == "tiny/train"
    assert check_folder(sealed, "tiny/train", folder).stage == "tiny/train"
    for name in ("export-cpu-fp32", "tiny/score", "gate", "check", "nothing", "other/train"):
        assert code_of(lambda: check_folder(sealed, name, folder)) == Exit.CORRUPT  # noqa: B023
    # What was signed for one digest or one state of the recipe says nothing of another.
    asked = replace(stated, digest="d" * 64, head="1" * 40, base="2" * 40, pull_request=1)
    assert sealed_of(asked).sha256 != sealed.sha256
    first, *rest = stated.stages
    moved = replace(stated, stages=(replace(first, fingerprint="f" * 64), *rest))
    assert code_of(lambda: check_plan(sealed_of(moved), plan)) == Exit.STALE
    fewer = replace(stated, stages=tuple(rest))
    assert code_of(lambda: check_plan(sealed_of(fewer), plan)) == Exit.STALE


def test_an_edited_subject_is_found_though_the_manifest_is_right(
    project: Project, sealed: Sealed
) -> None:
    subjects = dict(sealed.statement.subjects)
    for edit in (
        {**subjects, "train/weights": "0" * 64},
        {**subjects, "train/more": "0" * 64},
        {name: sha for name, sha in subjects.items() if name != "train/weights"},
    ):
        other = sealed_of(replace(sealed.statement, subjects=edit))
        assert code_of(lambda: check_folder(other, "train", project.root / TRAIN)) == 74  # noqa: B023


def test_of_which_stage_a_folder_is_says_its_manifest(project: Project, sealed: Sealed) -> None:
    fetched = project.root / "elsewhere"
    shutil.copytree(project.root / "outputs/tiny/export-cpu-fp32", fetched)
    assert stage_of(sealed, fetched).stage == "tiny/export-cpu-fp32"
    artifact.write_manifest(fetched, "export", {"info": 1}, "f" * 64)
    assert code_of(lambda: stage_of(sealed, fetched)) == Exit.CORRUPT
    assert code_of(lambda: stage_of(sealed, project.root)) == Exit.CORRUPT


def test_above_the_folders_that_fetch_has_brought_one_of_them_is_named(
    project: Project, sealed: Sealed
) -> None:
    brought = project.root / "brought"
    shutil.copytree(project.root / "outputs/tiny/export-cpu-fp32", brought / "export-cpu-fp32")
    with pytest.raises(CorruptError) as raised:
        stage_of(sealed, brought, "model")
    assert raised.value.mend == "name one of those in it: --folder model/export-cpu-fp32"


def test_a_second_name_is_refused_where_none_may_be(
    project: Project, plan: Plan, sealed: Sealed
) -> None:
    os.link(project.root / WEIGHTS, project.root / "second")
    assert check_outputs(sealed, project, plan), "as DVC links what it caches"
    assert attest(project, plan) == sealed.statement
    assert code_of(lambda: check_outputs(sealed, project, plan, alone=True)) == Exit.REFUSED
    assert code_of(lambda: attest(project, plan, alone=True)) == Exit.REFUSED


def test_a_folder_without_end_is_not_looked_through(project: Project, sealed: Sealed) -> None:
    folder = project.root / TRAIN / "evil"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}").write_text("x")
    with pytest.raises(SlmcompileError, match=r"train/evil: does not belong there"):
        check_folder(sealed, "train", project.root / TRAIN)


def typed(*words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(words) == code
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return found.out, found.err


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The project, without a key in the environment, and key files beside it."""
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("SLMCOMPILE_SIGNING_KEY", raising=False)
    for number in (1, 2):
        (tmp_path / f"{number}.pem").write_bytes(private_pem(number))
        (tmp_path / f"{number}.pub").write_bytes(public_pem(number))
    return project.root


def test_attest_and_verify_from_the_command_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = here / "pipelines/tiny/statement.json"
    _, said = typed("attest", "tiny", capsys=capsys)
    assert "it is not signed" in said
    assert "not signed" in typed("verify", "tiny", capsys=capsys)[0]
    typed("attest", "tiny", "--key", "../1.pem", capsys=capsys)
    first = file.read_bytes()
    out, _ = typed("verify", "tiny", capsys=capsys)
    assert "of which no key is known here" in out
    out, _ = typed("verify", "tiny", "--key", "../2.pub", "--key", "../1.pub", capsys=capsys)
    assert "signed by ../1.pub" in out
    assert "✓ gate: exact_match of torch is 0.9, bar ≥ 0.5" in out
    assert f"as stated: {TRAIN}" in out
    typed("verify", "tiny", "--key", "../2.pub", capsys=capsys, code=74)
    (here / FOLDER).mkdir()
    (here / FOLDER / "ci.pem").write_bytes(public_pem())
    out, _ = typed("verify", "tiny", "--json", capsys=capsys)
    told = json.loads(out)
    assert (told["signed_by"], told["unproven"]) == (f"{FOLDER}/ci.pem", [])
    assert told["statement"] == json.loads(b64decode(json.loads(first)["payload"]))
    assert TRAIN in told["checked"]
    typed("attest", "tiny", "--out", "other.json", capsys=capsys)
    typed("verify", "other.json", capsys=capsys, code=74)
    assert file.read_bytes() == first


def test_the_key_of_the_environment_signs_and_is_never_printed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here / "pipelines/tiny/statement.json"
    typed("attest", "tiny", "--key", "../1.pem", capsys=capsys)
    expected = file.read_bytes()
    file.unlink()
    monkeypatch.setenv("SLMCOMPILE_SIGNING_KEY", private_pem().decode())
    typed("attest", "tiny", capsys=capsys)
    assert file.read_bytes() == expected
    monkeypatch.setenv("SLMCOMPILE_SIGNING_KEY", private_pem().decode()[:90])
    out, err = typed("attest", "tiny", capsys=capsys, code=64)
    assert "$SLMCOMPILE_SIGNING_KEY: not a private key" in err
    assert private_pem().decode().splitlines()[1][:20] not in out + err
    assert file.read_bytes() == expected
    monkeypatch.setenv("SLMCOMPILE_SIGNING_KEY", "\n")  # a secret that is not set
    assert "not signed" in typed("attest", "tiny", capsys=capsys)[1]


def test_a_folder_is_verified_where_there_is_no_project(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    typed("attest", "tiny", "--key", "../1.pem", capsys=capsys)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(here / "outputs/tiny/export-cpu-fp32", elsewhere / "model")
    shutil.copy(here / "pipelines/tiny/statement.json", elsewhere)
    monkeypatch.chdir(elsewhere)
    words = ("verify", "statement.json", "--key", "../1.pub")
    assert "as stated: model" in typed(*words, "--folder", "model", capsys=capsys)[0]
    assert "no output was looked at" in typed(*words, capsys=capsys)[0]
    (elsewhere / "model/weights").write_text("evil")
    typed(*words, "--folder", "model", capsys=capsys, code=74)
    (elsewhere / "linked").symlink_to(here / "outputs/tiny/train")
    assert "as stated: linked" in typed(*words, "--folder", "linked", capsys=capsys)[0]


USAGE: dict[str, tuple[tuple[str, ...], int]] = {
    "a key that is not there": (("attest", "tiny", "--key", "none.pem"), 64),
    "a public key to sign with": (("attest", "tiny", "--key", "../1.pub"), 64),
    "a private key to verify with": (("verify", "tiny", "--key", "../1.pem"), 64),
    "a recipe that is not there": (("attest", "none"), 78),
    "out of another ending": (("attest", "tiny", "--out", "x.txt"), 64),
    "a file that is not there": (("verify", "./none.json"), 64),
    "a file that is no statement": (("verify", "recipes/tiny.yaml"), 74),
    "a folder that is not there": (("verify", "tiny", "--folder", "none"), 74),
    "a revision without git": (("verify", "tiny", "--policy-from", "none"), 69),
}


@pytest.mark.parametrize("name", USAGE)
def test_what_was_typed_wrongly_is_told_in_two_lines(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed("attest", "tiny", capsys=capsys)
    words, code = USAGE[name]
    _, err = typed(*words, capsys=capsys, code=code)
    assert re.fullmatch(r"error: .+\n +mend: .+\n", err), err


def test_a_statement_that_is_a_link_is_neither_read_nor_written_through(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed("attest", "tiny", capsys=capsys)
    file = here / "pipelines/tiny/statement.json"
    file.rename(tmp_path / "target.json")
    before = (tmp_path / "target.json").read_bytes()
    file.symlink_to(tmp_path / "target.json")
    typed("verify", "tiny", capsys=capsys, code=77)
    typed("attest", "tiny", "--key", "../1.pem", capsys=capsys, code=77)
    assert (tmp_path / "target.json").read_bytes() == before


def test_a_wrong_key_of_the_project_is_damage(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed("attest", "tiny", capsys=capsys)
    (here / FOLDER).mkdir()
    (here / FOLDER / "ci.pem").write_bytes(private_pem())
    _, err = typed("verify", "tiny", capsys=capsys, code=74)
    assert f"{FOLDER}/ci.pem: not a public key" in err
