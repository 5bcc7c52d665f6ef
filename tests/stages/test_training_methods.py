"""All weights, and LoRA over a base in 4 bits: they learn, resume to the same bytes, and ship."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from slmcompile.console.errors import CorruptError, SlmcompileError, StageFailedError
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, read_split, write_split
from slmcompile.methods.bottleneck import Bottleneck
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import Lora
from slmcompile.methods.qlora import Quantization
from slmcompile.models.base_model import load_base_model
from slmcompile.models.merge import load_merged
from slmcompile.models.model_folder import write_model
from slmcompile.shapes.splits import SPLITS
from slmcompile.stages import export
from slmcompile.stages import train as train_stage
from slmcompile.stages.context import Context
from tests import tiny_model
from tests.answering import answered, scored
from tests.sections import train_section
from tests.stages.tiny_training import CPU, make_base, make_data, run

Method = Literal["bottleneck", "full", "qlora"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def recipe(method: Method, **changes: Any) -> Train:
    settings: dict[str, Any] = {
        "learning_rate": {"full": 3e-3}.get(method, 1e-2),
        "num_train_epochs": 5.0,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "lr_scheduler_type": "cosine",
        "num_threads": 1,
    }
    return train_section(method=method, **{**settings, **changes})


SHORT: dict[str, Any] = {
    "max_steps": 8,
    "eval_steps": 3,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 8,
    "precision": "bf16",
}


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "weights").iterdir())
    }


def held_out(model: Any, data: Path) -> tuple[float, float]:
    """Token accuracy and mean loss on validation, row by row."""
    hits, loss, count = 0, 0.0, 0
    model.eval()
    for row in read_split(data, "validation"):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].float()
        targets = torch.tensor(row.labels[1:])
        trained = targets != IGNORED
        hits += int((logits.argmax(-1) == targets)[trained].sum())
        loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        count += int(trained.sum())
    return hits / count, loss / count


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_full_training_learns_the_task_and_stock_transformers_opens_the_folder(
    base: Path, data: Path, tmp_path: Path, precision: str
) -> None:
    given = (base / "model.safetensors").read_bytes()
    record = run(recipe("full", precision=precision), base, data, tmp_path)
    # In fp32 the weights are pages of that file until they are written to.
    assert (base / "model.safetensors").read_bytes() == given
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "weights")
    accuracy, loss = held_out(model, data)
    assert record.train_loss_first > 5
    assert record.train_loss_last < 0.1
    # A completion is a label token and the stop token: knowing only the stop gives 0.5 + 1/16.
    assert accuracy > 0.97
    assert loss == pytest.approx(record.best_eval_loss, abs=1e-4 if precision == "fp32" else 1e-2)
    assert record.trainable_parameters == record.total_parameters == model.num_parameters()
    weights = load_file(tmp_path / "weights" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    # Masters, not the rounded copies that bf16 computes with.
    assert not torch.equal(*(weights["model.norm.weight"].to(d).float() for d in DTYPES))
    transformers.AutoTokenizer.from_pretrained(tmp_path / "weights")


DTYPES = (torch.float32, torch.bfloat16)


def test_full_training_in_bf16_begins_from_weights_that_were_not_rounded(
    base: Path, data: Path, tmp_path: Path
) -> None:
    config = recipe("full", precision="bf16", max_steps=1, learning_rate=1e-9)
    run(config, base, data, tmp_path)
    given = load_file(base / "model.safetensors")
    for name, weight in load_file(tmp_path / "weights" / "model.safetensors").items():
        torch.testing.assert_close(weight, given[name], rtol=0, atol=1e-7)


def test_qlora_learns_the_task_over_4_bits_and_its_adapter_serves_the_exact_base(
    base: Path, data: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    config = recipe("qlora")
    record = run(config, base, data, tmp_path)
    assert record.train_loss_first > 5
    assert record.train_loss_last < 0.1
    quantised = load_base_model(base, "fp32", CPU, config.quantization)
    layers = [m for m in quantised.modules() if type(m).__name__ == "Linear4bit"]
    assert len(layers) == 14
    _, loss = held_out(PeftModel.from_pretrained(quantised, tmp_path / "weights"), data)
    assert loss == pytest.approx(record.best_eval_loss, abs=1e-4)
    accuracy, _ = held_out(load_merged(base, tmp_path / "weights"), data)
    assert accuracy > 0.97


def test_qlora_merges_into_the_base_that_was_never_quantised(
    base: Path, data: Path, tmp_path: Path
) -> None:
    run(recipe("qlora", max_steps=4, lora=Lora(r=4, lora_alpha=8.0)), base, data, tmp_path)
    given = load_file(base / "model.safetensors")
    adapter = load_file(tmp_path / "weights" / "adapter_model.safetensors")
    merged = load_merged(base, tmp_path / "weights").state_dict()
    name = "model.layers.1.mlp.down_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    assert b.abs().max() > 0
    torch.testing.assert_close(merged[f"{name}.weight"], given[f"{name}.weight"] + 2.0 * b @ a)
    assert merged[f"{name}.weight"].dtype == torch.float32
    torch.testing.assert_close(merged["model.norm.weight"], given["model.norm.weight"])


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    base: Path, data: Path, tmp_path: Path, method: Method
) -> None:
    lora = {"lora": Lora(r=4, lora_dropout=0.1)} if method == "qlora" else {}
    config = recipe(method, **SHORT, **lora)
    run(config, base, data, tmp_path / "whole")
    with pytest.raises(SlmcompileError, match="step 6"):
        run(config, base, data, tmp_path / "cut", stop_at=6)
    assert digests(tmp_path / "cut") == {}
    record = run(config, base, data, tmp_path / "cut")
    assert record.resumed_from == 6
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_gradient_checkpointing_changes_nothing(
    base: Path, data: Path, tmp_path: Path, method: Method
) -> None:
    plain = run(recipe(method, max_steps=3), base, data, tmp_path / "plain")
    config = recipe(method, max_steps=3, gradient_checkpointing=True)
    saving = run(config, base, data, tmp_path / "saving")
    for one, other in zip(plain.curve, saving.curve, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_every_key_of_the_quantised_base_reaches_it(base: Path) -> None:
    def layer(**changes: Any) -> Any:
        model = load_base_model(base, "bf16", CPU, Quantization(**changes))
        return model.get_submodule("model.layers.0.mlp.up_proj")

    default = layer()
    assert default.weight.quant_state.quant_type == "nf4"
    assert default.weight.quant_state.nested
    assert default.compute_dtype == torch.bfloat16
    assert layer(bnb_4bit_quant_type="fp4").weight.quant_state.quant_type == "fp4"
    assert not layer(bnb_4bit_use_double_quant=False).weight.quant_state.nested
    assert layer(bnb_4bit_compute_dtype="float32").compute_dtype == torch.float32


def test_validation_does_not_repack_the_weights_that_training_goes_on_with(
    base: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU with AVX-512 BF16, where the packed product has no gradient."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model = load_base_model(base, "bf16", CPU, Quantization())
    layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    before = [layer.weight.data.clone() for layer in layers]
    held_out(model, data)
    for layer, weight in zip(layers, before, strict=True):
        assert torch.equal(layer.weight.data, weight)
        assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


def test_a_base_that_is_not_finite_is_named_before_the_learning_rate(
    base: Path, data: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "base"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageFailedError, match=r"loss is nan at step 1: the base model's weights"):
        run(recipe("full", **SHORT), broken, data, tmp_path)
    assert digests(tmp_path) == {}


SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Llama", {"tie_word_embeddings": False}),
        ("Qwen2", {"tie_word_embeddings": True}),
        ("Phi3", {}),
        ("Gemma3Text", {}),
        ("Granite", {}),
        ("Qwen3Moe", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}),
    ],
)
def test_all_weights_of_a_family_come_back_from_the_folder(
    tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
    given: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    given.save_pretrained(tmp_path / "base")
    model = load_base_model(tmp_path / "base", "bf16", CPU)
    torch.manual_seed(1)
    trained = {name: torch.randn(p.shape) for name, p in model.named_parameters()}
    out = tmp_path / "model"
    out.mkdir()
    write_model(model, trained, tmp_path / "base", out)
    found = dict(load_merged(tmp_path / "base", out).named_parameters())
    assert found.keys() == trained.keys()
    for name, weight in trained.items():
        assert torch.equal(found[name], weight), name


def context(folder: Path, stage: str, config: Mapping[str, Any], **inputs: Path) -> Context:
    """A stage's context over folders that are there, as ``exec`` would make it."""
    out, scratch = folder / stage, folder / f"{stage}-scratch"
    out.mkdir()
    scratch.mkdir()
    runtime = {"track": {"type": "none", "project": "t", "mode": "offline", "tags": []}}
    return Context(
        folder, f"t/{stage}", config, inputs, {}, out, scratch, "0" * 64, runtime, Silent()
    )


@pytest.mark.parametrize("method", ["bottleneck", "full", "qlora"])
def test_what_was_trained_is_what_is_exported_and_evaluated(tmp_path: Path, method: Method) -> None:
    base = tiny_model.make_base(tmp_path / "tiny")
    data = tmp_path / "data"
    data.mkdir()
    rows = tiny_model.make_rows(base)
    for split in SPLITS:
        write_split(data, split, rows)
    (data / "prompt.json").write_text('{"template": "x"}\n', encoding="utf-8")
    shape = {"bottleneck": Bottleneck(style="houlsby", reduction_factor=1)}
    shape = shape if method == "bottleneck" else {}
    config = recipe(method, max_steps=20, per_device_train_batch_size=4, **shape)
    spec = json.loads(config.model_dump_json(exclude={"save_steps", "logging_steps"}))
    spec.pop("save_total_limit")
    trained = context(tmp_path, "train", spec, base=base, data=data)
    metrics = train_stage.run(trained).metrics
    assert metrics is not None
    assert metrics["train_loss_last"] < metrics["train_loss_first"]
    assert [path.name for path in trained.out.iterdir()] == [
        "model" if method == "full" else "adapter"
    ]
    target = {"target": {"precision": "fp32"}}
    made = context(tmp_path, "export", target, base=base, data=data, train=trained.out)
    parity = export.run(made).info["parity"]
    assert parity["max_abs_logit_diff"] < 1e-3
    assert parity["top1_agreement"] == 1.0
    asked = {
        "torch": {"base": base, "data": data, "train": trained.out},
        "base": {"base": base, "data": data},
        "cpu-fp32": {"data": data, "export": made.out},
    }
    answers = {name: answered(tmp_path, name, inputs, limit=4) for name, inputs in asked.items()}
    result, _ = scored(tmp_path, data, answers, metrics=["exact_match", "perplexity"])
    assert result.metrics is not None
    found = {name: result.metrics[name]["perplexity"] for name in asked}
    assert found["torch"] < 0.7 * found["base"]
    assert found["cpu-fp32"] == pytest.approx(found["torch"], rel=1e-3)


def test_a_trained_model_without_its_weights_is_corrupt(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(CorruptError, match="not a trained model"):
        load_merged(base, tmp_path / "model")


def test_the_memory_of_each_phase_is_recorded(base: Path, data: Path, tmp_path: Path) -> None:
    record = run(recipe("full", max_steps=2), base, data, tmp_path)
    phases = {"before_model", "loading", "training", "validation", "saving"}
    assert set(record.memory_bytes) == phases
    assert record.peak_memory_bytes >= max(record.memory_bytes.values()) > 0
    assert record.memory_bytes["training"] >= record.memory_bytes["before_model"] - (8 << 20)
