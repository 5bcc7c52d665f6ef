"""A real run is stated, signed and verified; one byte of a weight is enough to be found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from slmcompile.console.errors import Exit
from slmcompile.provenance.keys import FOLDER
from tests.projects import REPOSITORY, command, commit, make_repository
from tests.statements import private_pem, public_pem
from tests.workplace import Workplace

EXPORT = "outputs/tiny/export-cpu-fp32"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = make_repository(tmp_path_factory.mktemp("project").resolve())
    (root / FOLDER).mkdir()
    (root / FOLDER / "ci.pem").write_bytes(public_pem())
    commit(root, "who signs")
    (root.parent / "key.pem").write_bytes(private_pem())
    return Workplace(root)


def test_a_run_is_stated_and_verified_to_the_byte(work: Workplace) -> None:
    work.run("attest", "tiny", code=Exit.MISSING)
    work.run("run", "tiny", "gates=[{metric: exact_match, min: 0.8}]")
    done = work.run("attest", "tiny", "--key", "../key.pem")
    assert "of a run with gates=" in done.stderr
    told = json.loads(work.run("verify", "tiny", "--json").stdout)
    assert told["signed_by"] == f"{FOLDER}/ci.pem"
    assert set(told["checked"]) >= {"outputs/tiny/train", EXPORT}
    work.run("verify", "tiny", "--policy-from", "HEAD", "--folder", EXPORT)
    signed = (work.root / "pipelines/tiny/statement.json").read_bytes()
    work.run("attest", "tiny", "--key", "../key.pem")
    assert (work.root / "pipelines/tiny/statement.json").read_bytes() == signed
    work.run("verify", "tiny", "--key", "../key.pem", code=Exit.USAGE)

    weights = work.root / "outputs/tiny/train/adapter/adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()  # DVC's cache has the other name of it
    weights.write_bytes(bytes(data))
    said = work.run("verify", "tiny", code=Exit.CORRUPT).stderr
    assert "outputs/tiny/train/adapter/adapter_model.safetensors: its bytes are not" in said
    work.run("attest", "tiny", "--key", "../key.pem", code=Exit.CORRUPT)
    assert (work.root / "pipelines/tiny/statement.json").read_bytes() == signed


def test_an_export_is_verified_where_there_is_nothing_else(work: Workplace, tmp_path: Path) -> None:
    shutil.copytree(work.root / EXPORT, tmp_path / "model")
    shutil.copy(work.root / "pipelines/tiny/statement.json", tmp_path)
    shutil.copy(work.root / FOLDER / "ci.pem", tmp_path)
    there = Workplace(tmp_path)
    words = ("verify", "statement.json", "--key", "ci.pem", "--folder", "model")
    assert "as stated: model" in there.run(*words).stdout
    page = (REPOSITORY / "docs/provenance.md").read_text(encoding="utf-8")
    (by_others,) = re.findall(r"```sh\n(python3.*?)```", page, flags=re.DOTALL)
    assert "Verified Successfully" in command(tmp_path, "bash", "-ec", by_others).stdout
    (tmp_path / "model/model.onnx.data").write_bytes(b"")
    done = command(tmp_path, "bash", "-ec", by_others, check=False)
    assert "model/model.onnx.data: FAILED" in done.stdout
    assert done.returncode != 0
    there.run(*words, code=Exit.CORRUPT)
