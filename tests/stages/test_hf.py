"""A folder in the hub's layout: what transformers opens is what was trained, rounded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmcompile.console.errors import BadRecipeError, CorruptError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.export.export import export
from slmcompile.files.artifact import sha256_file
from slmcompile.inference import hf_folder
from slmcompile.inference.exported import open_exported
from slmcompile.inference.streamed_answer import Answer
from slmcompile.models.merge import load_merged
from slmcompile.providers import PROVIDERS
from slmcompile.providers.hf import HfTarget
from tests.family_folders import FAMILIES, make_family
from tests.tiny_model import make_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

REBUILT = "Qwen2"
"""A family of which transformers does not open every ``tokenizer.json`` as it stands."""

Made = tuple[Path, dict[str, Any]]


def _export(base: Path, trained: Path, folder: Path, precision: str) -> Made:
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    prompt = folder / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    target, rows = HfTarget(precision=precision), make_rows(base)
    return out, export(target, base, trained, prompt, rows, out, scratch, Silent())


@pytest.fixture(scope="module")
def made(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("made")
    return {
        precision: _export(base, adapter, folder / precision, precision)
        for precision in ("fp32", "bf16", "fp16")
    }


@pytest.mark.parametrize(("precision", "mean_kl"), [("fp32", 0), ("bf16", 1e-3), ("fp16", 1e-5)])
def test_plain_transformers_opens_it_and_computes_what_was_trained(
    base: Path, adapter: Path, made: dict[str, Made], precision: str, mean_kl: float
) -> None:
    out, info = made[precision]
    opened = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto").eval()
    assert str(opened.dtype).removeprefix("torch.") == hf_dtype(precision)
    merged, rows = load_merged(base, adapter), make_rows(base)
    for row in rows:
        ids = torch.tensor([row.input_ids])
        with torch.inference_mode():
            wanted, found = merged(ids).logits, opened(ids).logits.float()
        far = {"fp32": 1e-5, "bf16": 0.5, "fp16": 0.05}[precision]
        assert (wanted - found).abs().max() < far
    parity = info["parity"]
    assert parity["rows"] == len(rows)
    assert parity["mean_kl"] <= mean_kl
    assert (parity["max_abs_logit_diff"] == 0) == (precision == "fp32")


def _family(family: str, base: Path, folder: Path) -> Path:
    own = transformers.AutoTokenizer.from_pretrained(base)
    make_family(family, folder, own)
    shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")
    return folder


def hf_dtype(precision: str) -> str:
    return {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[precision]


def test_every_weight_is_the_merged_one_rounded_once(
    base: Path, adapter: Path, made: dict[str, Made]
) -> None:
    merged = load_merged(base, adapter).state_dict()
    opened = transformers.AutoModelForCausalLM.from_pretrained(made["bf16"][0], dtype="auto")
    for name, weight in opened.state_dict().items():
        assert torch.equal(weight, merged[name].to(weight.dtype)), name


def test_the_tokenizer_that_transformers_opens_gives_the_ids_of_training(
    base: Path, made: dict[str, Made]
) -> None:
    out = made["bf16"][0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    for row in make_rows(base):
        assert tokenizer(row.prompt, add_special_tokens=False)["input_ids"] == row.prompt_ids
    asked = [{"role": "user", "content": "turn on the lamp"}]
    own = transformers.AutoTokenizer.from_pretrained(base)
    assert tokenizer.apply_chat_template(asked, tokenize=False) == own.apply_chat_template(
        asked, tokenize=False
    )


def test_what_it_generates_on_its_own_is_what_was_measured(
    base: Path, made: dict[str, Made]
) -> None:
    out = made["fp32"][0]
    opened = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    model = open_exported("hf", out, 1)
    prompts = [row.prompt_ids for row in make_rows(base)]
    answers = model.generate(prompts, 8, 4, lambda _: None)
    for prompt, answer in zip(prompts, answers, strict=True):
        told = opened.generate(torch.tensor([prompt]), max_new_tokens=8)[0, len(prompt) :].tolist()
        stops = [told.index(stop) for stop in model.stops if stop in told]
        assert answer.ids == told[: min(stops, default=8)]


def test_of_the_generation_settings_only_token_ids_stay(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    sampling = tmp_path / "base"
    shutil.copytree(base, sampling)
    settings = json.loads((base / "generation_config.json").read_text("utf-8"))
    changed = {**settings, "do_sample": True, "temperature": 0.7, "repetition_penalty": 1.3}
    (sampling / "generation_config.json").write_text(json.dumps(changed), "utf-8")
    out, _ = _export(sampling, adapter, tmp_path / "made", "bf16")
    found = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert found
    assert all(key.endswith("_token_id") for key in found)


def test_a_streamed_answer_is_the_text_of_the_measured_one(
    base: Path, made: dict[str, Made]
) -> None:
    model, row = hf_folder.load(made["fp32"][0], 1), make_rows(base)[0]
    (answer,) = model.generate([row.prompt_ids], 12, 1, lambda _: None)
    assert "".join(Answer(model, [row.prompt], 12)) == model.decode(answer.ids)
    assert answer.ids


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_exporting_twice_gives_equal_bytes_and_names_no_place(
    base: Path, adapter: Path, made: dict[str, Made], tmp_path: Path, precision: str
) -> None:
    out, info = made[precision]
    again, again_info = _export(base, adapter, tmp_path / "a" / "longer" / "p", precision)
    hashes = {path.name: sha256_file(path) for path in out.iterdir()}
    assert hashes == {path.name: sha256_file(path) for path in again.iterdir()}
    assert info == again_info
    for path in out.iterdir():
        assert str(base).encode() not in path.read_bytes(), path.name
    assert list((out.parent / "scratch").iterdir()) == []
    weights = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert info["weights_bytes"] == weights


@pytest.mark.parametrize("family", [*sorted(set(FAMILIES) - {REBUILT}), "GPTNeoX", "StableLm"])
def test_other_families_are_opened_as_they_were_trained(
    base: Path, tmp_path: Path, family: str
) -> None:
    folder = _family(family, base, tmp_path / "family")
    _, info = _export(folder, folder, tmp_path / "made", "fp32")
    assert info["parity"]["max_abs_logit_diff"] == 0


def test_a_tokenizer_that_transformers_opens_as_another_is_refused(
    base: Path, tmp_path: Path
) -> None:
    """Qwen 2's class builds its own splitter, whatever ``tokenizer.json`` says."""
    folder = _family(REBUILT, base, tmp_path / "family")
    with pytest.raises(StageFailedError, match="hf fp32 by transformers: its tokenizer differs"):
        _export(folder, folder, tmp_path / "made", "fp32")


def test_every_causal_language_model_of_transformers_is_known() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = PROVIDERS["hf"].architectures
    assert dict(known) == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert len(known) > 100


def test_a_weight_that_half_precision_does_not_reach_is_named(base: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(base, large)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight[0] = 1e5
    model.save_pretrained(large)
    with pytest.raises(StageFailedError, match=r"model\.norm\.weight has weights beyond 65504"):
        _export(large, large, tmp_path / "made", "fp16")
    assert _export(large, large, tmp_path / "other", "bf16")


def test_a_damaged_folder_is_corrupt(made: dict[str, Made], tmp_path: Path) -> None:
    for name, damage in {
        "model.safetensors": lambda content: content[: len(content) // 2],
        "config.json": lambda content: content[:-20],
        "tokenizer.json": lambda content: content[: len(content) // 2],
        "prompt.json": lambda _: b"{",
        "generation_config.json": lambda _: b"{}",
    }.items():
        folder = tmp_path / name
        shutil.copytree(made["bf16"][0], folder)
        (folder / name).write_bytes(damage((folder / name).read_bytes()))
        with pytest.raises(CorruptError) as found:
            hf_folder.load(folder, 1)
        assert found.value.code == 74
    with pytest.raises(BadRecipeError, match="no adapters"):
        hf_folder.load(made["bf16"][0], 1, adapter=tmp_path / "a")
