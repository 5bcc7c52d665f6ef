"""Every family trains by every method that fits it, and what is written is what was trained.

Tiny random models; each has what its family is known for: packed projections (Phi-3), norms around
and caps on what a layer gives (Gemma 2), norms of queries and keys (Qwen3, Gemma 3, OLMo 2), layers
without positions (SmolLM3), multipliers (Granite), biases (Qwen2).
"""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, read_split
from slmcompile.export.built import build_plain
from slmcompile.export.export import export
from slmcompile.inference import onnx_model
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import Lora
from slmcompile.models.merge import load_merged
from slmcompile.providers.accelerators import CudaTarget
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.genai import ARCHITECTURES
from slmcompile.providers.keys import Target
from slmcompile.training.group import Member
from slmcompile.training.loop import train
from slmcompile.training.record import TrainingRecord, TrainRuntime
from tests.family_folders import FAMILIES, make_family
from tests.sections import train_section
from tests.stages.tiny_training import CPU, make_data, make_rows, make_tokenizer

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "lora": ("lora", {}),
    "qlora": ("qlora", {}),
    "dora": ("lora", {"use_dora": True}),
    "pissa": ("lora", {"init_lora_weights": "pissa"}),
    "olora": ("lora", {"init_lora_weights": "olora"}),
    "loftq": ("qlora", {"init_lora_weights": "loftq"}),
    "qdora": ("qlora", {"use_dora": True}),
    "loraplus": ("lora", {"loraplus_lr_ratio": 4.0}),
}
EXACT = {"full", "lora", "dora", "pissa", "olora", "loraplus"}
"""Methods whose merged model is the one that was validated; over 4 bits it is another base."""

EVERYWHERE = ("full", "lora")
_ADAPTERS = ("qlora", "dora", "pissa", "loftq")
SPECIAL = {
    "Llama": tuple(METHODS),
    "Phi3": _ADAPTERS,
    "Qwen3": _ADAPTERS,
    "Gemma2": _ADAPTERS,
    "Gemma3Text": _ADAPTERS,
}
"""Where projections are packed, or norms and caps stand around what an adapter is on."""
CASES = [
    (family, method)
    for family in FAMILIES
    for method in dict.fromkeys((*EVERYWHERE, *SPECIAL.get(family, ())))
]
STOP = 1
EXPORTED = tuple(family for family in FAMILIES if family != "Olmo2")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, tokenizer = tmp_path_factory.mktemp("families"), make_tokenizer()
    return {family: make_family(family, folder / family, tokenizer) for family in FAMILIES}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), train=200, validation=40)


def recipe(name: str, **changes: Any) -> Train:
    method, lora = METHODS[name]
    settings: dict[str, Any] = {
        "learning_rate": 3e-3 if method == "full" else 1e-2,
        "max_steps": 40,
        "eval_steps": 20,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 40,
        "num_threads": 1,
    }
    if method != "full":
        settings["lora"] = Lora(**{"r": 8, "lora_alpha": 16.0, **lora})
    return train_section(method=method, **{**settings, **changes})


def run(config: Train, base: Path, data: Path, folder: Path) -> TrainingRecord:
    out = folder / "weights"
    out.mkdir(parents=True)
    runtime = TrainRuntime(save_steps=1000, logging_steps=1000)
    member = Member("", config, data, out, folder / "scratch", "run-1")
    return train(member, base, runtime, Silent(), lambda _step, _values: None, CPU)


def held_out(model: Any, data: Path) -> float:
    """Mean loss on validation, row by row."""
    loss, count = 0.0, 0
    for row in read_split(data, "validation"):
        with torch.no_grad():
            found = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].float()
        targets = torch.tensor(row.labels[1:])
        loss += torch.nn.functional.cross_entropy(found, targets, reduction="sum").item()
        count += int((targets != IGNORED).sum())
    return loss / count


def reread(base: Path, weights: Path) -> Any:
    """As stock libraries open what was written, over the base as it was fetched."""
    from peft import PeftModel

    if (weights / "config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, weights).eval()


@pytest.mark.parametrize(("family", "method"), CASES)
def test_a_family_learns_and_what_is_written_merges_into_the_same_logits(
    folders: dict[str, Path], data: Path, tmp_path: Path, family: str, method: str
) -> None:
    base = folders[family]
    record = run(recipe(method), base, data, tmp_path)
    assert record.train_loss_last < 0.5 * record.train_loss_first
    assert record.best_eval_loss < 0.5 * held_out(load_merged(base, None), data)
    merged = load_merged(base, tmp_path / "weights")
    ids = torch.arange(2, 130).reshape(4, 32)
    with torch.no_grad():
        found = merged(input_ids=ids).logits
        expected = reread(base, tmp_path / "weights")(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
    loss = held_out(merged, data)
    if method in EXACT:
        assert loss == pytest.approx(record.best_eval_loss, abs=2e-4)
    else:
        assert loss < 2 * record.best_eval_loss + 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_in_bf16_over_fp32_masters(
    folders: dict[str, Path], data: Path, tmp_path: Path, family: str
) -> None:
    """The adapter is not rounded: what is merged in fp32 is near what was validated in bf16."""
    base = folders[family]
    record = run(recipe("dora", precision="bf16"), base, data, tmp_path)
    assert record.train_loss_last < 0.5 * record.train_loss_first
    loss = held_out(load_merged(base, tmp_path / "weights"), data)
    assert loss == pytest.approx(record.best_eval_loss, rel=0.1, abs=0.05)


STRETCHED = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
"""As in Gemma 3 of 4 billion parameters and more."""


@pytest.mark.parametrize("family", [*EXPORTED, "Gemma3Text-stretched"])
def test_a_family_is_exported_with_the_logits_of_torch(
    folders: dict[str, Path], data: Path, tmp_path: Path, family: str
) -> None:
    if family in folders:
        base = folders[family]
    else:
        given = make_tokenizer()
        base = make_family("Gemma3Text", tmp_path / "base", given, rope_parameters=STRETCHED)
    run(recipe("lora", max_steps=5), base, data, tmp_path)
    out, scratch = tmp_path / "out", tmp_path / "scratch-export"
    out.mkdir()
    scratch.mkdir()
    prompt = tmp_path / "prompt.json"
    prompt.write_text('{"template": "x"}\n', encoding="utf-8")
    target, rows = CpuTarget(precision="fp32"), make_rows(6, 3)
    info = export(target, base, tmp_path / "weights", prompt, rows, out, scratch, Silent())
    assert info["parity"]["max_abs_logit_diff"] < 1e-3
    assert info["parity"]["top1_agreement"] == 1.0
    merged, exported = load_merged(base, tmp_path / "weights"), onnx_model.load(out, 1)
    prompts = [row.prompt_ids for row in rows]
    answers = exported.generate(prompts, 8, 1, lambda _: None)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        told = merged.generate(ids, max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
        assert answer.ids == told[: told.index(STOP) if STOP in told else 8]


BUILT = [
    *((CpuTarget(precision="fp32"), family) for family in EXPORTED),
    *((CpuTarget(precision="int4"), family) for family in EXPORTED),
    (CpuTarget(precision="int8"), "Llama"),
    (CpuTarget(precision="int4", int4_algo_config="k_quant_mixed"), "Llama"),
    (CpuTarget(precision="int4", int4_algo_config="rtn", int4_is_symmetric=False), "Phi3"),
    (CudaTarget(precision="fp16"), "Qwen2"),
    (CudaTarget(precision="int4"), "Gemma2"),
]


@pytest.mark.parametrize(("target", "family"), BUILT)
def test_what_is_built_of_an_open_model_is_what_is_built_of_a_saved_one(
    folders: dict[str, Path], tmp_path: Path, target: Target, family: str
) -> None:
    """To the byte, and the model is as it was."""
    model = load_merged(folders[family], None)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    opened, saved, scratch = (tmp_path / name for name in ("opened", "saved", "scratch"))
    for folder, weights in ((opened, None), (saved, model.state_dict())):
        folder.mkdir()
        build_plain(target, model, folders[family], folder, scratch, weights)
    names = sorted(path.name for path in opened.iterdir())
    assert {"model.onnx", "model.onnx.data", "genai_config.json"} <= {*names}
    assert filecmp.cmpfiles(opened, saved, names, shallow=False) == (names, [], [])
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(("target", "family"), BUILT)
def test_weights_that_go_as_they_are_quantised_are_the_same_in_the_file(
    folders: dict[str, Path], tmp_path: Path, target: Target, family: str
) -> None:
    kept, spent, scratch = (tmp_path / name for name in ("kept", "spent", "scratch"))
    for folder in (kept, spent):
        folder.mkdir()
    build_plain(target, load_merged(folders[family], None), folders[family], kept, scratch)
    model = load_merged(folders[family], None)
    places = {id(weight): weight.untyped_storage().data_ptr() for weight in model.parameters()}
    build_plain(target, model, folders[family], spent, scratch, spends=True)
    names = sorted(path.name for path in kept.iterdir())
    assert filecmp.cmpfiles(kept, spent, names, shallow=False) == (names, [], [])
    gone = {name for name, weight in model.named_parameters() if not weight.numel()}
    down = [name for name, _ in model.named_parameters() if name.endswith("down_proj.weight")]
    assert gone >= {*down} if target.precision in {"int4", "int8"} else not gone
    left = [weight for weight in model.parameters() if weight.numel()]
    assert all(weight.untyped_storage().data_ptr() == places[id(weight)] for weight in left)


def test_the_families_that_are_not_exported_are_those_that_a_plan_refuses(
    folders: dict[str, Path],
) -> None:
    kinds = {
        family: json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        for family, folder in folders.items()
    }
    refused = {family for family, kind in kinds.items() if kind not in ARCHITECTURES}
    assert refused == set(FAMILIES) - set(EXPORTED)
