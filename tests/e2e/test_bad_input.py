"""Bad input ends in one clear error, the right exit code and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from tests.projects import environment, make_repository, slmcompile

ROWS = Path("data/tiny/commands.jsonl")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose base model is there already, so that a run gets to the data at once."""
    root = make_repository(tmp_path_factory.mktemp("bad").resolve())
    (root / "data/corpus.txt").write_text((root / ROWS).read_text(encoding="utf-8"))
    recipe = root / "recipes" / "tiny.yaml"
    recipe.write_text(
        recipe.read_text(encoding="utf-8") + "model: {source: {tokenizer_text: data/corpus.txt}}\n",
        encoding="utf-8",
    )
    return root


def fails(root: Path, *words: str, code: Exit) -> str:
    """Runs, checks what every error must be, and returns it."""
    before = set((root / "outputs").rglob("*")) if (root / "outputs").exists() else set()
    done = slmcompile(root, *words, check=False)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) <= 2, done.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.stdout + done.stderr
    left = {path.name for path in (root / "outputs").rglob("*") if path not in before}
    assert not {name for name in left if name.endswith(".part")}
    return done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b'{"text": "turn on", "label": "on"}\n{"text": "turn\n', "commands.jsonl:2"),
        (b'{"text": "turn on", "label": "on"}\n{"text": "turn off"}\n', "label"),
        (b'{"text": "turn on", "label": "on"}\n{"text": "turn off", "label": null}\n', "label"),
        (b'{"text": "turn on", "label": ""}\n', "commands.jsonl:1: the completion is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'{"text": "turn on", "label": "on"}\n', "split"),
    ],
)
def test_bad_rows_are_named(project: Path, content: bytes, says: str) -> None:
    path = project / ROWS
    good = path.read_bytes()
    path.write_bytes(content)
    try:
        error = fails(project, "run", "tiny", code=Exit.BAD_DATA)
    finally:
        path.write_bytes(good)
    assert says in error


def test_a_missing_file_is_found_by_plan(project: Path) -> None:
    path = project / ROWS
    path.rename(path.with_suffix(".away"))
    try:
        error = fails(project, "plan", "tiny", code=Exit.BAD_DATA)
    finally:
        path.with_suffix(".away").rename(path)
    assert "data/tiny/commands.jsonl: no such file" in error
    assert "conf/data/tiny-commands.yaml:" in error


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("plan", "nope"), Exit.BAD_RECIPE, "no such recipe"),
        (("plan", "tiny", "train.lr=1"), Exit.BAD_RECIPE, "train.learning_rate"),
        (("plan", "tiny", "train.seed=x"), Exit.BAD_RECIPE, "train.seed"),
        (("plan", "tiny", "target=[cpu-int9]"), Exit.BAD_RECIPE, "no option of target is called"),
        (("plan", "tiny", "data.template.prompt='{txt}'"), Exit.BAD_DATA, "did you mean 'text'"),
        (("plan",), Exit.USAGE, "recipe"),
        (("plan", "tiny", "--jsn"), Exit.USAGE, "--jsn"),
        (("fly", "tiny"), Exit.USAGE, "fly"),
        (("show", "quickstart"), Exit.MISSING, "never ran"),
        (("exec", "pipelines/none.json"), Exit.STALE, "no such spec"),
    ],
)
def test_bad_words_are_named(project: Path, words: tuple[str, ...], code: Exit, says: str) -> None:
    assert says in fails(project, *words, code=code)


def test_a_template_that_names_no_column_says_which_there_are(project: Path) -> None:
    error = fails(project, "run", "tiny", "data.template.prompt='{txt} = '", code=Exit.BAD_DATA)
    assert "txt" in error
    assert "text" in error.replace("txt", "")


def test_rows_that_a_check_refutes_stop_the_run_before_training(project: Path) -> None:
    twice = "data.template.prompt='<|im_start|><|im_start|>{text} = '"
    error = fails(project, "run", "tiny", twice, code=Exit.BAD_DATA)
    assert "480 of 480 rows hold BOS twice in a row, first data/tiny/commands.jsonl:1" in error
    assert list((project / "outputs").glob("data-*/manifest.json"))
    assert not (project / "outputs" / "tiny" / "train").exists()


def test_a_target_module_that_matches_nothing_is_named(project: Path) -> None:
    error = fails(
        project, "run", "tiny", "train.lora.target_modules=[q_prog]", code=Exit.BAD_RECIPE
    )
    assert "q_prog" in error
    assert "q_proj" in error


def test_outside_a_project(tmp_path: Path) -> None:
    assert "recipes/" in fails(tmp_path, "plan", "tiny", code=Exit.USAGE)


namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None, reason="needs a mount namespace to make a disk small"
)


def in_namespace(
    project: Path, folder: Path, options: str, then: str, words: str = "run tiny"
) -> str:
    """Runs ``tiny`` (or ``words``) on a file system of its own, mounted with ``options``."""
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o {options} tmpfs {folder} && cp -a {project}/. {folder}/ && {then} "
        f"cd {folder} && exec {sys.executable} -m slmcompile {words}"
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        env=environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == Exit.MISSING, done.stderr
    return done.stderr


@namespaces
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    root = make_repository((tmp_path / "project").resolve())
    # A folder takes no room there.
    used = sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())
    small = f"size={used + 500_000}"
    assert "free some space" in in_namespace(root, tmp_path / "small", small, "true &&")
    assert not (root / "outputs").exists(), "a check refutes it before anything is written"
    # A stage meets a disk that has filled up since the plan.
    slmcompile(root, "sync", "tiny")
    (spec,) = (path.relative_to(root) for path in root.glob("pipelines/base-*/plan/base.json"))
    error = in_namespace(
        root, tmp_path / "full", f"size={used + 200_000}", "true &&", f"exec {spec}"
    )
    assert "no space left" in error


@namespaces
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    root = make_repository((tmp_path / "project").resolve())
    error = in_namespace(
        root, tmp_path / "frozen", "size=100m", f"mount -o remount,ro {tmp_path}/frozen &&"
    )
    assert "cannot be written" in error
