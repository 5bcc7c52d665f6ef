"""Which targets there are, and what this machine can do with each."""

from __future__ import annotations

import json

import pytest

from slmcompile.cli.main import main
from slmcompile.console.errors import MissingError
from slmcompile.explain.capabilities import markdown
from slmcompile.inference import runs_here as asking
from slmcompile.inference.runs_here import runs_here
from slmcompile.providers import PROVIDERS
from tests.projects import REPOSITORY

GROUPS = sorted(path.stem for path in (REPOSITORY / "conf/target").glob("*.yaml"))


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    assert main(["targets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["targets"]
    return {f"{each['provider']}-{each['precision']}": each for each in found}


def test_every_option_of_the_group_is_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = {name.replace("_", "-") for name in listed(capsys)}
    assert set(GROUPS) <= pairs


def test_the_word_says_what_runs_it_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "get_ep_devices", list)
    found = listed(capsys)
    assert found["cpu-int4"]["word"] == "verified"
    assert found["cuda-fp16"]["word"] == "emulated"
    assert found["cuda-bf16"]["word"] == "generated"
    assert "onnxruntime-genai-cuda" in found["cuda-fp16"]["why"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert runs_here("cuda")
    assert listed(capsys)["cuda-int4"]["word"] == listed(capsys)["cuda-bf16"]["word"] == "verified"
    assert asking.runs_here("of-nobody") is False


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["provider", "precision", "here", "adapters"]
    assert len(rows) == len(listed(capsys))


def test_the_page_says_what_each_builds_of_each_family() -> None:
    """Written by ``slmcompile targets --markdown > docs/targets.md``."""
    assert (REPOSITORY / "docs/targets.md").read_text(encoding="utf-8") == markdown()


def test_a_cell_without_a_form_is_what_a_plan_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["families"]
    assert found["cpu"]["llama"] == ["merged", "nodes", "inputs"]
    assert found["gguf"]["gemma2"] == []
    for provider, built in found.items():
        for family, forms in built.items():
            entry = PROVIDERS[provider]
            assert bool(forms) == (family in entry.architectures)
            assert ("nodes" in forms) == (bool(forms) and family in entry.inserts_into)
            assert ("inputs" in forms) == (bool(forms) and family in entry.read_back)


@pytest.mark.parametrize(
    ("target", "extra"), [("gguf-q8_0", "gguf"), ("openvino-int4", "openvino")]
)
def test_a_target_whose_runtime_is_not_installed_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str, extra: str
) -> None:
    def none_of(*names: str) -> dict[str, str]:
        raise MissingError(f"the package {names[0]} is not installed", "install it")

    monkeypatch.setattr(asking, "versions", none_of)
    found = listed(capsys)[target]
    assert found["word"] == "missing"
    assert f"slmcompile[{extra}]" in found["why"]
