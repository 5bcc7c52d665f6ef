"""What a package for a browser is made of: known bytes of known versions, and nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from tokenizers import Tokenizer

from slmcompile.cli.main import main
from slmcompile.console.errors import Exit
from slmcompile.files import artifact
from slmcompile.recipe.project import Project
from slmcompile.release import web_runtime
from slmcompile.release.programs import Asked
from slmcompile.release.web import SITE, app
from slmcompile.release.web_runtime import ONNXRUNTIME, PINNED, Pinned, fetching
from tests.tiny_tokenizer import make_tokenizer
from tests.unit.test_package import EXPORT, PROMPT, REPORT, finished

SAID = "<|im_start|>turn on the light"
CONFIG: dict[str, Any] = {
    "context_length": 256,
    "eos_token_id": [2, 0],
    "decoder": {
        "head_size": 16,
        "num_hidden_layers": 2,
        "num_key_value_heads": 3,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    },
}


def packed(folder: Path, pinned: Pinned) -> Pinned:
    """A small archive of the package's form, and what pins it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / pinned.archive
    with tarfile.open(path, "w:gz") as archive:
        for member in pinned.files.values():
            data = f"{pinned.name} {member}\n".encode()
            info = tarfile.TarInfo(f"package/{member}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    digest = hashlib.sha512(path.read_bytes()).digest()
    return Pinned(
        pinned.name,
        pinned.version,
        base64.b64encode(digest).decode(),
        pinned.license,
        pinned.files,
    )


def for_a_browser(root: Path, precision: str) -> Project:
    """A finished project whose one export is for a browser."""
    project = finished(root, provider="web")
    info = {"execution_provider": "web", "precision": precision}
    with artifact.replacing(root / EXPORT, "export", info) as out:
        (out / "model.onnx").write_bytes(b"graph")
        (out / "model.onnx.data").write_bytes(b"weights")
        artifact.write_json(out / "prompt.json", {**PROMPT, "template": {"type": "text"}})
        artifact.write_json(out / "genai_config.json", {"model": CONFIG})
        make_tokenizer(out)
    rows = [
        {"artifact": "cpu-fp32", "id": 1, "prompt": f"{SAID} = ", "prediction": "on"},
        {"artifact": "cpu-fp32", "id": 2, "prompt": f"{SAID} now = ", "prediction": "on"},
        {"artifact": "cpu-fp32", "id": 3, "prompt": f"{SAID}! = ", "prediction": "off"},
        {"artifact": "cpu-fp32", "id": 4, "prompt": "<|im_start|>x = ", "cut_off": True},
        {"artifact": "torch", "id": 1, "prompt": "<|im_start|>x = ", "prediction": "yes"},
    ]
    with artifact.replacing(root / "outputs/tiny/score", "score") as out:
        lines = [json.dumps({"prediction": "", **row}) for row in rows]
        artifact.write_text(out / "predictions.jsonl", "\n".join(lines) + "\n")
    summary = json.loads((root / REPORT / "summary.json").read_text(encoding="utf-8"))
    summary["hashes"]["cpu-fp32"] = artifact.sha256_file(root / EXPORT / "manifest.json")
    card = (root / REPORT / "cards/cpu-fp32/README.md").read_text(encoding="utf-8")
    with artifact.replacing(root / REPORT, "report") as out:
        artifact.write_json(out / "summary.json", summary)
        artifact.write_text(out / "cards/cpu-fp32/README.md", card)
    return project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    found = for_a_browser(tmp_path.resolve() / "project", "int8")
    folder = found.scratch / web_runtime.FOLDER
    monkeypatch.setattr(web_runtime, "PINNED", [packed(folder, each) for each in PINNED])
    monkeypatch.chdir(found.root)
    return found


def names(archive: Path) -> set[str]:
    with ZipFile(archive) as opened:
        return {name.partition("/")[2] for name in opened.namelist()}


def test_it_has_the_page_the_runtime_and_the_licences_and_no_program_of_another(
    project: Project,
) -> None:
    assert main(["package", "tiny"]) == Exit.DONE
    made = project.root / "tiny-cpu-fp32.zip"
    found = names(made)
    assert {path.name for path in SITE.iterdir() if path.is_file()} <= found
    assert {"app.json", "model.onnx", "SHA256SUMS", "NOTICE", "README.md"} <= found
    runtime = {name.removeprefix("runtime/") for name in found if name.startswith("runtime/")}
    assert {"ort.wasm.bundle.min.mjs", "jinja.mjs", "jinja.LICENSE"} <= runtime
    assert {"onnxruntime.LICENSE", "onnxruntime.ThirdPartyNotices.txt"} <= runtime
    assert not [name for name in runtime if "webgpu" in name or "asyncify" in name]
    assert not {"run.py", "run.mjs", "inference_model.json"} & found
    with ZipFile(made) as archive:
        notice = archive.read("tiny-cpu-fp32/NOTICE").decode()
        told = json.loads(archive.read("tiny-cpu-fp32/app.json"))
        licence = archive.read("tiny-cpu-fp32/runtime/onnxruntime.LICENSE").decode()
    assert "onnxruntime-web 1.30.0, license: MIT" in notice
    assert "Copyright (c) Microsoft Corporation" in licence
    assert told["files"] == [
        {"path": "model.onnx", "size": 5},
        {"path": "model.onnx.data", "size": 7},
    ]
    values = [each["values"]["text"] for each in told["examples"]]
    assert values == ["turn on the light", "turn on the light!", "turn on the light now"]
    assert [each["answer"] for each in told["examples"]] == ["on", "off", "on"]
    tokenizer = Tokenizer.from_file(str(project.root / EXPORT / "tokenizer.json"))
    for each in told["examples"]:
        assert tokenizer.decode(each["ids"], skip_special_tokens=False) == each["prompt"]


def test_what_a_graphics_processor_takes_comes_with_what_asks_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = for_a_browser(tmp_path.resolve(), "int4")
    folder = project.scratch / web_runtime.FOLDER
    monkeypatch.setattr(web_runtime, "PINNED", [packed(folder, each) for each in PINNED])
    monkeypatch.chdir(project.root)
    assert main(["package", "tiny"]) == Exit.DONE
    found = names(project.root / "tiny-cpu-fp32.zip")
    assert {f"runtime/{name}" for name in ONNXRUNTIME.files} <= found


def test_without_the_packages_of_npm_it_says_the_command_that_fetches_them(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.scratch / web_runtime.FOLDER / ONNXRUNTIME.archive).unlink()
    assert main(["package", "tiny"]) == Exit.MISSING
    said = capsys.readouterr().err
    assert "onnxruntime-web 1.30.0 is not in .slmcompile/npm" in said
    assert fetching([ONNXRUNTIME]) in said
    assert not (project.root / "tiny-cpu-fp32.zip").exists()


def test_a_package_of_npm_with_other_bytes_is_not_packed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.scratch / web_runtime.FOLDER / ONNXRUNTIME.archive
    path.write_bytes(path.read_bytes() + b"\0")
    assert main(["package", "tiny"]) == Exit.CORRUPT
    assert "its SHA-512 is not that of onnxruntime-web 1.30.0" in capsys.readouterr().err
    assert not (project.root / "tiny-cpu-fp32.zip").exists()


def test_pins_are_those_of_the_lock_that_npm_reads() -> None:
    """Where a package is in both, they are of one version and of the same bytes."""
    lock = Path(__file__).parents[1] / "node/package-lock.json"
    listed = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    both = 0
    for each in PINNED:
        found = listed.get(f"node_modules/{each.name}")
        if found:
            both += 1
            assert (found["version"], found["integrity"]) == (
                each.version,
                f"sha512-{each.integrity}",
            )
    assert both == 1


def told(prompt: dict[str, Any]) -> dict[str, Any]:
    return app("x", Asked({**PROMPT, **prompt}, CONFIG), {"model.onnx": 1}, webgpu=False)


def test_a_page_knows_the_prompt_and_the_graph_by_their_own_words() -> None:
    found = told({"template": {"type": "text"}, "prefix_ids": [7]})
    assert found["parts"] == ["<|im_start|>", ["text"], " = "]
    assert (found["columns"], found["stops"], found["prefix_ids"]) == (["text"], [2, 0], [7])
    assert found["past_shape"] == [1, 3, 0, 16]
    assert found["past"][1] == {"from": "past_key_values.0.value", "to": "present.0.value"}
    assert len(found["past"]) == 4
    assert found["chat"] is None
    assert found["positions"] is False


def test_a_prompt_that_no_text_tells_is_one_of_messages() -> None:
    template = {"type": "chat", "system": "Be brief.", "user": "say {text}!", "assistant": "{a}"}
    found = told({"template": template, "text": None})
    assert found["parts"] is None
    assert found["chat"] == {"system": "Be brief.", "user": ["say ", ["text"], "!"]}
    assert found["columns"] == ["text"]


def test_conversations_are_a_talk() -> None:
    found = told({"template": {"type": "messages"}, "enable_thinking": True})
    assert (found["columns"], found["parts"], found["chat"]) == ([], None, None)
    assert found["enable_thinking"] is True


def test_the_pages_files_name_no_other_host() -> None:
    for path in SITE.iterdir():
        if path.suffix in {".html", ".mjs", ".css"}:
            assert "://" not in path.read_text(encoding="utf-8"), path
