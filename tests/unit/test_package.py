"""A package is equal to the byte whoever makes it, and nothing leaves that must not."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import pytest
import yaml

from slmcompile.cli.main import main
from slmcompile.console.errors import Exit, MissingError
from slmcompile.execution.sync import compile_recipe
from slmcompile.files import artifact
from slmcompile.files.stored_zip import FileEntry, write_zip
from slmcompile.recipe.project import Project
from slmcompile.release.foundry import inference_model
from slmcompile.release.programs import Asked, run_py
from tests.finished_run import finish
from tests.projects import REPOSITORY, make_project

PROMPT = {
    "format_version": "1.1",
    "text": "<|im_start|>{text} = ",
    "columns": ["text"],
    "stop": {"id": 2, "text": "<|im_end|>"},
    "prefix_ids": [],
    "control_tokens": {"<|im_end|>": 2, "<|im_start|>": 1},
}
CARD = "---\nlicense: mit\n---\n\n# tiny\n\nmodel = og.Model('outputs/tiny/export-cpu-fp32')\n"
EXPORT, REPORT = "outputs/tiny/export-cpu-fp32", "outputs/tiny/report"


def finished(root: Path, gates: tuple[dict[str, Any], ...] = (), provider: str = "cpu") -> Project:
    """A project that has run, whose export and report are small files of their form."""
    project = Project(make_project(root, data=("tiny",)))
    (root / "recipes/quickstart.yaml").unlink()
    finish(project, compile_recipe(project, "tiny"))
    with artifact.replacing(
        root / EXPORT, "export", {"execution_provider": provider, "precision": "fp32"}
    ) as out:
        (out / "model.onnx").write_bytes(bytes(range(256)) * 64)
        artifact.write_json(out / "prompt.json", PROMPT)
        artifact.write_json(out / "genai_config.json", {"model": {"context_length": 256}})
    summary = {
        "gates": list(gates),
        "hashes": {"cpu-fp32": artifact.sha256_file(root / EXPORT / "manifest.json")},
        "model_name": "tiny-llama",
        "model_license": "Apache-2.0",
        "data_name": "tiny-commands",
        "data_license": "MIT",
        "packages": {"onnxruntime-genai": "0.18.0"},
    }
    with artifact.replacing(root / REPORT, "report") as out:
        artifact.write_json(out / "summary.json", summary)
        artifact.write_text(out / "cards/cpu-fp32/README.md", CARD)
    return project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    found = finished(tmp_path.resolve() / "project")
    monkeypatch.chdir(found.root)
    return found


def test_it_is_the_same_from_another_place_on_another_day(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["package", "tiny", "--out", str(tmp_path / "one.zip")]) == Exit.DONE
    moved = tmp_path / "elsewhere" / "deeper"
    moved.parent.mkdir()
    project.root.rename(moved)
    for path in moved.rglob("*"):
        os.utime(path, (1e9, 1e9))
    for path in (moved / EXPORT).iterdir():
        path.chmod(0o600)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    real = time.localtime
    monkeypatch.setattr(time, "localtime", lambda at=1e9: real(at))
    monkeypatch.chdir(moved)
    before = os.umask(0o077)
    try:
        assert main(["package", "tiny", "--target", "cpu-fp32"]) == Exit.DONE
    finally:
        os.umask(before)
    assert (moved / "tiny-cpu-fp32.zip").read_bytes() == (tmp_path / "one.zip").read_bytes()


def test_it_has_all_of_the_export_and_sums_that_sha256sum_takes(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["package", "tiny", "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    data = (project.root / told["file"]).read_bytes()
    assert (told["sha256"], told["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    with ZipFile(project.root / told["file"]) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {info.compress_type for info in archive.infolist()} == {ZIP_STORED}
        archive.extractall(tmp_path / "out")
    folder = tmp_path / "out" / "tiny-cpu-fp32"
    ours = {"NOTICE", "README.md", "SHA256SUMS", "inference_model.json", "run.py"}
    exported = {path.name for path in (project.root / EXPORT).iterdir()}
    assert {path.name for path in folder.iterdir()} == exported | ours
    assert set(told["files"]) == exported | ours - {"SHA256SUMS"}
    for name in exported:
        assert (folder / name).read_bytes() == (project.root / EXPORT / name).read_bytes()
    assert checked(folder).returncode == 0
    path = folder / "model.onnx"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    turned = checked(folder)
    assert turned.returncode != 0
    assert "model.onnx: FAILED" in turned.stdout


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    return subprocess.run(words, cwd=folder, text=True, capture_output=True, check=False)


def test_its_card_opens_the_folder_that_it_lies_in_and_its_notice_names_the_licenses(
    project: Project,
) -> None:
    assert main(["package", "tiny"]) == Exit.DONE
    with ZipFile(project.root / "tiny-cpu-fp32.zip") as archive:
        card = archive.read("tiny-cpu-fp32/README.md").decode()
        notice = archive.read("tiny-cpu-fp32/NOTICE").decode()
    assert card.startswith("---\nlicense: mit\n")
    assert "og.Model('.')" in card
    assert "outputs/" not in card
    assert "python run.py 'text'" in card
    assert "Base model: tiny-llama, license: Apache-2.0" in notice
    assert "Data: tiny-commands, license: MIT" in notice


def test_what_another_runtime_opens_has_no_program_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished(tmp_path.resolve(), provider="hf").root)
    assert main(["package", "tiny"]) == Exit.DONE
    with ZipFile("tiny-cpu-fp32.zip") as archive:
        names = {name.removeprefix("tiny-cpu-fp32/") for name in archive.namelist()}
        assert "run.py" not in archive.read("tiny-cpu-fp32/README.md").decode()
    assert {"model.onnx", "manifest.json", "README.md", "NOTICE", "SHA256SUMS"} <= names
    assert not {"run.py", "run.mjs", "inference_model.json"} & names


def turned(path: Path) -> None:
    """One bit of a file is another."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def of_another_export(root: Path) -> None:
    """The folder is sound and of other weights than were measured."""
    (root / EXPORT / "model.onnx").write_bytes(b"other")
    artifact.write_manifest(root / EXPORT, "export", {"execution_provider": "cpu"})


def recipe_edited(root: Path) -> None:
    path = root / "recipes/tiny.yaml"
    path.write_text(path.read_text() + "train:\n  learning_rate: 1e-5\n")


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda root: shutil.rmtree(root / EXPORT), Exit.MISSING, "was never exported here"),
        (lambda root: shutil.rmtree(root / REPORT), Exit.MISSING, "was never measured here"),
        (lambda root: turned(root / EXPORT / "model.onnx"), Exit.CORRUPT, "model.onnx: its bytes"),
        (lambda root: turned(root / EXPORT / "prompt.json"), Exit.CORRUPT, "prompt.json: its"),
        (lambda root: turned(root / REPORT / "summary.json"), Exit.CORRUPT, "summary.json: its"),
        (lambda root: (root / EXPORT / "more").touch(), Exit.CORRUPT, "not in the manifest"),
        (of_another_export, Exit.STALE, "of another export than lies here"),
        (recipe_edited, Exit.STALE, "the recipe has changed since: train.learning_rate"),
    ],
)
def test_what_must_not_leave_is_refused_and_nothing_is_written(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], Any],
    code: Exit,
    said: str,
) -> None:
    spoil(project.root)
    before = {*project.root.iterdir()}
    assert main(["package", "tiny"]) == code
    assert said in capsys.readouterr().err
    assert {*project.root.iterdir()} == before


def test_a_trained_model_that_is_another_now_is_told(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.pipelines / "tiny" / "dvc.lock"
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    for out in lock["stages"]["train"]["outs"]:
        out["md5"] = "0" * 32 + (".dir" if out["md5"].endswith(".dir") else "")
    path.write_text(yaml.safe_dump(lock), encoding="utf-8")
    assert main(["package", "tiny"]) == Exit.STALE
    assert "is of an earlier model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("of", "code"), [("cpu-fp32", Exit.GATE_FAILED), ("torch", Exit.GATE_FAILED), ("cpu-int4", 0)]
)
def test_a_missed_gate_of_it_or_of_the_model_keeps_it_here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    of: str,
    code: int,
) -> None:
    gate = {"metric": "exact_match", "artifact": of, "bar": "≥ 0.9", "value": 0.5, "passed": False}
    root = finished(tmp_path.resolve(), (gate,)).root
    monkeypatch.chdir(root)
    assert main(["package", "tiny"]) == code
    assert (f"exact_match of {of} is 0.5, bar ≥ 0.9" in capsys.readouterr().err) == bool(code)
    assert (root / "tiny-cpu-fp32.zip").exists() == (not code)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "cpu-fp23"], "cpu-fp32"),
        (["--adapter", "tone"], "has no such adapter"),
        (["--out", "model.tar.gz"], "ends in .zip"),
        (["--out", f"{EXPORT}/model.zip"], "among the outputs"),
    ],
)
def test_words_that_cannot_be_are_refused(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["package", "tiny", *words]) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (project.root / EXPORT / "model.zip").exists()


# --- the archive alone -----------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_packed_leaves_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"12345")
    sound = FileEntry(path, hashlib.sha256(b"12345").hexdigest(), 5)
    write_zip(tmp_path / "sound.zip", {"a/weights": sound, "a/text": b"t"})
    for other in (b"12346", b"1234", b"123456"):
        path.write_bytes(other)
        with pytest.raises(Exception, match="its bytes are not those") as found:
            write_zip(tmp_path / "other.zip", {"a/weights": sound})
        assert found.value.code == Exit.CORRUPT  # type: ignore[attr-defined]
    assert {each.name for each in tmp_path.iterdir()} == {"weights", "sound.zip"}


def test_where_there_is_no_room_an_earlier_archive_stays_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    write_zip(out, {"a": b"1"})
    before = out.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(MissingError):
            write_zip(out, {"a": bytes(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == before
    assert [*tmp_path.iterdir()] == [out]


_KILLED = """
import os, signal, sys
from pathlib import Path
from slmcompile.files import stored_zip
add = stored_zip._add
def killed(archive, info, entry):
    add(archive, info, entry)
    os.kill(os.getpid(), signal.SIGKILL)
stored_zip._add = killed
stored_zip.write_zip(Path(sys.argv[1]), {"a": bytes(100_000), "b": b"2"})
"""


def test_one_that_was_killed_leaves_none_and_the_next_takes_away_its_rest(tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    done = subprocess.run([sys.executable, "-c", _KILLED, str(out)], cwd=REPOSITORY, check=False)
    assert done.returncode == -9
    assert not out.exists()
    assert [*tmp_path.iterdir()], "it has begun"
    write_zip(out, {"a": b"1"})
    assert [*tmp_path.iterdir()] == [out]


# --- what a prompt becomes -------------------------------------------------------------------


def pieces_of(asked: Asked, *words: str) -> list[str]:
    """What the program would encode, of its own lines before it opens the model."""
    text = run_py(asked)
    before = text[: text.index("config = og.Config")].replace("import onnxruntime_genai as og", "")
    given = {"__file__": str(REPOSITORY / "tests" / "none.py")}
    before = before.replace(
        "json.loads((here / 'prompt.json').read_text(encoding=\"utf-8\"))", repr(asked.prompt)
    )
    argv, sys.argv = sys.argv, ["run.py", *words]
    try:
        exec(before, given)
    finally:
        sys.argv = argv
    found: list[str] = given["pieces"]  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(
    "typed",
    [
        "turn on",
        "<|im_end|>",
        "a <|im_start|><|im_end|> b",
        "<|im_end",
        "'\"\\{text}\n",
        "<|<|im_end|>",
    ],
)
def test_the_program_cuts_a_prompt_as_generate_does(typed: str) -> None:
    from slmcompile.data.prompt import prompt_pieces

    asked = Asked(PROMPT, {"context_length": 256})
    assert tuple(pieces_of(asked, typed)) == prompt_pieces(PROMPT, {"text": typed})


def test_the_program_of_several_columns_takes_them_in_order() -> None:
    prompt = PROMPT | {"text": "{a}: {it's}!", "columns": ["a", "it's"], "control_tokens": {}}
    asked = Asked(prompt, {"context_length": 256})
    assert pieces_of(asked, "1 {a}", "2") == ["1 {a}: 2!"]
    with pytest.raises(SystemExit, match="needs onnxruntime-genai"):
        pieces_of(asked, "1")


def test_foundry_local_is_told_a_prompt_that_one_text_fills() -> None:
    told = inference_model("tiny", PROMPT | {"text": "{{{text}}} = "})
    assert told == {
        "Name": "tiny",
        "PromptTemplate": {"assistant": "{Content}<|im_end|>", "prompt": "{{Content}} = "},
    }
    for text, columns in (("{a}{b}", ["a", "b"]), ("{a}{a}", ["a"]), (None, ["a"])):
        found = inference_model("tiny", PROMPT | {"text": text, "columns": columns})
        assert found["PromptTemplate"] is None
