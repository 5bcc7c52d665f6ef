"""A folder with adapters beside a base computes what was trained over that base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.export.beside import Standing, export_beside
from slmcompile.export.quantize import quantize
from slmcompile.files.artifact import MANIFEST, sha256_file, write_json, write_manifest
from slmcompile.inference import onnx_model
from slmcompile.inference.onnx_adapters import chosen
from slmcompile.models.merge import load_merged
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.genai import READ_BACK
from tests import tiny_model
from tests.stages.test_bottleneck_export import adapter_of, base_of

torch = pytest.importorskip("torch")

FP32, INT8, INT4 = (CpuTarget(precision=each) for each in ("fp32", "int8", "int4"))


@pytest.fixture(scope="module")
def int4(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held(INT4, base, None, tmp_path_factory.mktemp("int4"))


@pytest.fixture(scope="module")
def fp32_of_int4(base: Path, int4: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held(FP32, base, int4, tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="module")
def lora(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make_adapter(base, tmp_path_factory.mktemp("lora") / "adapter", scale=0.3)


def held(target: CpuTarget, base: Path, over: Path | None, folder: Path) -> Path:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    info = quantize(target, base, over, folder / "out", folder / "scratch", Silent())
    assert not list((folder / "scratch").iterdir())
    exact = target.precision == "fp32" or over is not None
    assert (info["relative_error"] < 1e-6) == exact
    write_manifest(folder / "out", "quantize", info)
    return folder / "out"


def standing(base: Path, trained: Path, folder: Path, name: str = "") -> Standing:
    prompt = folder / f"{name}prompt.json"
    template = {"type": "text", "prompt": "{text} = ", "completion": "{label}"}
    write_json(prompt, {"task": f"task of {name}", "template": template})
    return Standing(name, trained, prompt, tiny_model.make_rows(base))


def shipped(
    target: CpuTarget, base: Path, over: Path | None, of: Path, folder: Path, *each: Standing
) -> tuple[Path, dict[str, Any]]:
    out = folder / "export"
    out.mkdir()
    return out, export_beside(target, base, over, of, each, out, Silent())


def test_other_targets_hold_the_weights_that_were_trained_over(
    base: Path, int4: Path, fp32_of_int4: Path, lora: Path, tmp_path: Path
) -> None:
    one = standing(base, lora, tmp_path)
    _, info = shipped(FP32, base, int4, fp32_of_int4, tmp_path, one)
    assert info["parity"]["max_abs_logit_diff"] < 1e-3
    assert info["parity"]["top1_agreement"] == 1.0


def test_over_int8_the_head_has_weights_of_its_own_in_other_targets_too(
    base: Path, lora: Path, tmp_path: Path
) -> None:
    """In int8 the embedding stays as it is, and the head that was it is rounded."""
    int8 = held(INT8, base, None, tmp_path / "int8")
    fp32 = held(FP32, base, int8, tmp_path / "fp32")
    _, info = shipped(FP32, base, int8, fp32, tmp_path, standing(base, lora, tmp_path))
    assert info["parity"]["max_abs_logit_diff"] < 1e-3
    tied, apart = (load_merged(base, None, of) for of in (None, fp32))
    assert apart.lm_head.weight is not apart.model.embed_tokens.weight
    assert torch.equal(apart.model.embed_tokens.weight, tied.model.embed_tokens.weight)
    assert not torch.equal(apart.lm_head.weight, tied.lm_head.weight)


def test_int8_holds_the_very_weights_of_an_int4_base_that_was_trained_over(
    base: Path, int4: Path, lora: Path, tmp_path: Path
) -> None:
    """Sixteen steps of the one are a step of the other, whose largest weight in a block is -8."""
    int8 = held(INT8, base, int4, tmp_path / "int8")
    ids = torch.tensor([tiny_model.make_rows(base)[0].input_ids])
    with torch.inference_mode():
        found, over, fetched = (
            load_merged(base, None, of)(ids).logits for of in (int8, int4, None)
        )
    assert torch.equal(found, over)
    assert not torch.equal(found, fetched)
    one = standing(base, lora, tmp_path)
    _, info = shipped(INT8, base, int4, int8, tmp_path, one)
    assert info["parity"]["mean_kl"] < 0.01


def test_an_fp32_folder_of_other_weights_than_were_trained_over_is_refused(
    base: Path, int4: Path, lora: Path, tmp_path: Path
) -> None:
    own = held(FP32, base, None, tmp_path / "own")
    with pytest.raises(StageFailedError, match="the export agrees with torch on"):
        shipped(FP32, base, int4, own, tmp_path, standing(base, lora, tmp_path))


def test_the_base_is_copied_as_it_is_and_its_adapter_answers_by_default(
    base: Path, int4: Path, lora: Path, tmp_path: Path
) -> None:
    out, info = shipped(INT4, base, int4, int4, tmp_path, standing(base, lora, tmp_path))
    assert sha256_file(out / "model.onnx.data") == sha256_file(int4 / "model.onnx.data")
    ids = [tiny_model.make_rows(base)[0].input_ids]
    with torch.inference_mode():
        expected = load_merged(base, lora, int4)(torch.tensor(ids)).logits.numpy()
        untrained = load_merged(base, None, int4)(torch.tensor(ids)).logits.numpy()
    found = onnx_model.load(out, 1).logits(ids)
    # The int4 products round activations to 8 bits; what was learnt is far more than that.
    off, learnt = np.abs(found - expected).mean(), np.abs(untrained - expected).mean()
    assert off < 0.1 * learnt
    assert info["parity"]["mean_abs_logit_diff"] < 0.1 * learnt
    assert not (out / MANIFEST).exists()
    assert info["size_bytes"] > info["weights_bytes"] > (int4 / "model.onnx.data").stat().st_size


def test_of_several_adapters_each_is_its_own_and_none_is_the_base(
    base: Path, int4: Path, lora: Path, tmp_path: Path
) -> None:
    other = tiny_model.make_adapter(base, tmp_path / "other", scale=0.8)
    each = (standing(base, lora, tmp_path, "one"), standing(base, other, tmp_path, "two"))
    out, info = shipped(INT4, base, int4, int4, tmp_path, *each)
    assert set(info["members"]) == {"one", "two"}
    for name, told in info["members"].items():
        assert told["task"] == f"task of {name}"
        assert told["template"]["prompt"] == "{text} = "
        assert (out / told["adapter"]).is_file()
        assert json.loads((out / told["prompt"]).read_text())["task"] == f"task of {name}"
    ids = [tiny_model.make_rows(base)[0].input_ids]
    alone = onnx_model.load(out, 1)
    assert np.array_equal(alone.logits(ids), onnx_model.load(int4, 1).logits(ids))
    for name, trained in (("one", lora), ("two", other)):
        with torch.inference_mode():
            expected = load_merged(base, trained, int4)(torch.tensor(ids)).logits.numpy()
        found = alone.with_adapter(chosen(out, name)).logits(ids)
        wrong = alone.with_adapter(chosen(out, "two" if name == "one" else "one")).logits(ids)
        assert np.abs(found - expected).mean() < 0.1 * np.abs(wrong - expected).mean()
    damaged = out / "adapters/two.onnx_adapter"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(CorruptError, match=r"two\.onnx_adapter"):
        alone.with_adapter(damaged)


@pytest.mark.parametrize("family", sorted(READ_BACK))
def test_an_adapter_stands_beside_the_base_of_every_family_that_is_read_back(
    base: Path, tmp_path: Path, family: str
) -> None:
    """From a base to the folder: over the int4 base, in fp32 to the number and as it ships."""
    own = base_of(family, base, tmp_path / "base")
    trained = tiny_model.make_adapter(own, tmp_path / "adapter", scale=0.3)
    int4 = held(INT4, own, None, tmp_path / "int4")
    fp32 = held(FP32, own, int4, tmp_path / "fp32")
    one = standing(own, trained, tmp_path)
    out, info = shipped(FP32, own, int4, fp32, tmp_path, one)
    assert info["parity"]["max_abs_logit_diff"] < 1e-3
    assert info["parity"]["top1_agreement"] == 1.0
    shutil.rmtree(out)
    _, info = shipped(INT4, own, int4, int4, tmp_path, one)
    assert info["parity"]["mean_kl"] < 0.05


def test_bottleneck_adapters_stand_beside_it_as_nodes(
    base: Path, int4: Path, fp32_of_int4: Path, tmp_path: Path
) -> None:
    trained = adapter_of(base, tmp_path / "adapter")
    one = standing(base, trained, tmp_path)
    out, info = shipped(FP32, base, int4, fp32_of_int4, tmp_path, one)
    assert info["parity"]["max_abs_logit_diff"] < 1e-3
    shutil.rmtree(out)
    _, info = shipped(INT4, base, int4, int4, tmp_path, one)
    assert info["parity"]["mean_kl"] < 0.05
