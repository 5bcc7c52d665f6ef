"""Every variant of an adapter is written as a plain adapter of the base, and ships as trained.

An adapter that begins as a part of the base (PiSSA, OLoRA, LoftQ) is trained over other weights
than it is merged into; these tests hold the two to each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from slmcompile.console.errors import BadRecipeError, SlmcompileError
from slmcompile.data.store import IGNORED, read_split
from slmcompile.methods.keys import Train
from slmcompile.methods.lora import Lora
from slmcompile.models.merge import load_merged
from slmcompile.training.methods.lora import LORA
from slmcompile.training.methods.protocol import ALONE
from slmcompile.training.methods.qlora import QLORA
from tests.sections import train_section
from tests.stages.tiny_training import CPU, make_base, make_data, run

PATTERNS = {
    "rank_pattern": {"q_proj": 4, "layers.1.self_attn.q_proj": 6, "down_proj": 12},
    "alpha_pattern": {"mlp.down_proj": 5.0},
}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gaussian": {"init_lora_weights": "gaussian"},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "dora-pissa": {"use_dora": True, "init_lora_weights": "pissa"},
    "patterns": PATTERNS,
    "pissa-patterns": {"init_lora_weights": "pissa", **PATTERNS},
    "olora-patterns-rslora": {"init_lora_weights": "olora", "use_rslora": True, **PATTERNS},
    "few": {"layers_to_transform": (1,), "exclude_modules": ("k_proj",)},
    "embedding": {"target_modules": ("embed_tokens", "q_proj"), "init_lora_weights": "pissa"},
    "dora-embedding": {"target_modules": ("embed_tokens", "q_proj"), "use_dora": True},
    "pissa-saved": {"init_lora_weights": "pissa", "modules_to_save": ("norm", "lm_head")},
    "dora-saved": {"use_dora": True, "modules_to_save": ("norm",)},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its head is its own, so that an embedding can be adapted alone."""
    return make_base(tmp_path_factory.mktemp("base"), tie_word_embeddings=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def recipe(method: str, lora: Mapping[str, Any], **changes: Any) -> Train:
    settings: dict[str, Any] = {
        "learning_rate": 1e-2,
        "max_steps": 60,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "num_threads": 1,
    }
    adapter = Lora(**{"r": 8, "lora_alpha": 16.0, **lora})
    return train_section(method=method, lora=adapter, **{**settings, **changes})


def plain_peft(base: Path, adapter: Path) -> Any:
    """As anybody opens it: stock transformers and PEFT, over the base as it was fetched."""
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).eval()


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(2, 258).reshape(8, 32)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
    return found


def moved(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights after a step at random, as training would leave them."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn_like(weight) * weight.abs().mean().clamp(min=0.1))
    return {
        name: weight.detach().float()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_written_is_a_plain_adapter_of_the_base_with_the_trained_logits(
    base: Path, tmp_path: Path, variant: str
) -> None:
    """In fp32, by stock PEFT over the base and by the merge, to 2e-4 of logits around 10."""
    config = recipe("lora", VARIANTS[variant])
    torch.manual_seed(0)
    model = LORA.attach(LORA.open(config, base, CPU), config, ALONE).eval()
    start = logits(model)
    untouched = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    torch.testing.assert_close(start, untouched, rtol=0, atol=2e-4)
    weights = moved(model)
    trained = logits(model)
    assert (trained - start).abs().max() > 0.3
    LORA.write(model, weights, base, tmp_path, ALONE)
    reread = plain_peft(base, tmp_path)
    torch.testing.assert_close(logits(reread), trained, rtol=0, atol=2e-4)
    torch.testing.assert_close(logits(load_merged(base, tmp_path)), trained, rtol=0, atol=2e-4)
    settings = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["init_lora_weights"] in {True, "gaussian"}
    doubled = config.lora.init_lora_weights in {"pissa", "olora"}
    assert settings["r"] == (16 if doubled else 8)


def test_pissa_and_olora_begin_as_peft_begins_them(base: Path) -> None:
    from peft import LoraConfig, get_peft_model

    for first in ("pissa", "olora"):
        config = recipe("lora", {"init_lora_weights": first, "target_modules": ("up_proj",)})
        ours = LORA.attach(LORA.open(config, base, CPU), config, ALONE)
        given = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        theirs = get_peft_model(
            given,
            LoraConfig(
                r=8,
                lora_alpha=16,
                target_modules=["up_proj"],
                init_lora_weights=first,  # type: ignore[arg-type]
            ),
        )
        for name, weight in theirs.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name), weight, msg=f"{first}: {name}")


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("first", ["loftq", "pissa", "olora"])
def test_over_4_bits_what_ships_is_what_was_trained_and_what_quantising_lost(
    base: Path, tmp_path: Path, first: str, kind: str
) -> None:
    """merged - (held + s·B·A) = W - (held + s·B₀·A₀), whatever was trained; LoftQ's is small."""
    from bitsandbytes.functional import dequantize_4bit

    def held(layer: Any) -> torch.Tensor:
        return dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()

    def whole(layer: Any) -> torch.Tensor:
        low = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        return held(layer.get_base_layer()) + layer.scaling["default"] * low.detach()

    config = recipe(
        "qlora", {"init_lora_weights": first}, quantization={"bnb_4bit_quant_type": kind}
    )
    plain = recipe("qlora", {}, quantization={"bnb_4bit_quant_type": kind})
    rounded = QLORA.open(plain, base, CPU)
    torch.manual_seed(0)
    model = QLORA.attach(QLORA.open(config, base, CPU), config, ALONE)
    layers = {
        name: module
        for name, module in model.get_base_model().named_modules()
        if type(module).__name__ == "Linear4bit" and hasattr(module, "lora_A")
    }
    assert len(layers) == 14
    given = load_file(base / "model.safetensors")
    lost = {name: given[f"{name}.weight"] - whole(layer) for name, layer in layers.items()}
    weights = moved(model)
    QLORA.write(model, weights, base, tmp_path, ALONE)
    merged = load_merged(base, tmp_path).state_dict()
    for name, layer in layers.items():
        torch.testing.assert_close(
            merged[f"{name}.weight"] - whole(layer), lost[name], rtol=0, atol=1e-5
        )
        by_qlora = given[f"{name}.weight"] - held(rounded.get_submodule(name))
        share = float(lost[name].norm() / by_qlora.norm())
        assert share < (0.9 if first == "loftq" else 1.1), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["dora", "pissa", "olora", "dora-pissa"])
def test_a_variant_learns_the_task_and_ships_as_measured(
    base: Path, data: Path, tmp_path: Path, variant: str, precision: str
) -> None:
    config = recipe("lora", VARIANTS[variant], precision=precision)
    record = run(config, base, data, tmp_path)
    assert record.train_loss_last < 0.1 * record.train_loss_first
    assert record.fast_paths["fused_lora"] == (0 if config.lora.use_dora else 14)
    loss = held_out(load_merged(base, tmp_path / "weights"), data)
    assert loss == pytest.approx(record.best_eval_loss, abs=1e-4 if precision == "fp32" else 2e-2)


def test_loftq_learns_the_task_and_its_adapter_serves_the_base(
    base: Path, data: Path, tmp_path: Path
) -> None:
    record = run(recipe("qlora", {"init_lora_weights": "loftq"}), base, data, tmp_path)
    assert record.train_loss_last < 0.1 * record.train_loss_first
    loss = held_out(load_merged(base, tmp_path / "weights"), data)
    assert loss < 2 * record.best_eval_loss + 0.05


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


@pytest.mark.parametrize(
    ("method", "variant"),
    [
        ("lora", {"use_dora": True}),
        ("lora", {"init_lora_weights": "pissa", "lora_dropout": 0.1}),
        ("lora", {"init_lora_weights": "olora", "loraplus_lr_ratio": 4.0}),
        ("qlora", {"init_lora_weights": "loftq"}),
        ("qlora", {"init_lora_weights": "pissa", "use_dora": True}),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    base: Path, data: Path, tmp_path: Path, method: str, variant: dict[str, Any]
) -> None:
    """The base that the adapter was taken out of is made again, the same."""
    config = recipe(method, variant, precision="bf16", max_steps=8, eval_steps=3)
    run(config, base, data, tmp_path / "whole")
    with pytest.raises(SlmcompileError, match="step 6"):
        run(config, base, data, tmp_path / "cut", stop_at=6)
    assert run(config, base, data, tmp_path / "cut").resumed_from == 6
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        one, other = (tmp_path / each / "weights" / name for each in ("whole", "cut"))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_magnitude_is_trained_written_and_never_decays(
    base: Path, data: Path, tmp_path: Path
) -> None:
    config = recipe("lora", {"use_dora": True}, max_steps=4, weight_decay=0.5)
    run(config, base, data, tmp_path)
    written = load_file(tmp_path / "weights" / "adapter_model.safetensors")
    lengths = {k: v for k, v in written.items() if k.endswith("lora_magnitude_vector")}
    assert len(lengths) == 14
    given = load_file(base / "model.safetensors")
    for name, vector in lengths.items():
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_magnitude_vector")
        before = given[f"{layer}.weight"].norm(dim=1)
        change = ((vector - before) / before).abs()
        assert 0 < change.max() < 0.2, layer


def test_b_moves_by_the_ratio_and_the_schedule_scales_both_rates(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """AdamW's first step moves a weight by its learning rate, whatever the gradient."""
    changes: dict[str, Any] = {"learning_rate": 1e-3, "warmup_ratio": 0.0}
    found = {}
    for ratio in (None, 8.0):
        folder = tmp_path / str(ratio)
        config = recipe("lora", {"loraplus_lr_ratio": ratio}, max_steps=1, **changes)
        run(config, base, data, folder)
        found[ratio] = load_file(folder / "weights" / "adapter_model.safetensors")
    for name, weight in found[None].items():
        if "lora_B" in name:
            assert weight.abs().max() == pytest.approx(1e-3, rel=1e-2)
            torch.testing.assert_close(found[8.0][name], 8 * weight, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(found[8.0][name], weight)
    config = recipe("lora", {"loraplus_lr_ratio": 8.0}, max_steps=8, **changes)
    with pytest.raises(SlmcompileError):
        run(config, base, data, tmp_path / "cut", stop_at=4)
    state = tmp_path / "cut" / "scratch" / "step-00000004" / "state.json"
    groups = json.loads(state.read_text(encoding="utf-8"))["optimizer"]
    assert [group["lr"] for group in groups] == pytest.approx([0.5e-3, 4e-3])


def test_a_base_and_its_head_that_share_weights_are_not_taken_apart(tmp_path: Path) -> None:
    tied = make_base(tmp_path / "tied")
    config = recipe("lora", {"target_modules": ("lm_head",), "init_lora_weights": "pissa"})
    with pytest.raises(BadRecipeError, match="whose weights are the input embedding too"):
        LORA.attach(LORA.open(config, tied, CPU), config, ALONE)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(
    "target", [("lm_head",), ("embed_tokens",), ("embed_tokens", "lm_head"), ("lm_head", "q_proj")]
)
def test_an_adapter_on_one_of_two_that_share_weights_changes_that_one_alone(
    tmp_path: Path, target: tuple[str, ...], dora: bool
) -> None:
    tied = make_base(tmp_path / "tied", pad_token_id=None)
    config = recipe("lora", {"target_modules": target, "use_dora": dora})
    model = LORA.attach(LORA.open(config, tied, CPU), config, ALONE).eval()
    start = logits(model)
    weights = moved(model)
    trained = logits(model)
    assert (trained - start).abs().max() > 0.3
    LORA.write(model, weights, tied, tmp_path, ALONE)
    merged = load_merged(tied, tmp_path)
    torch.testing.assert_close(logits(merged), trained, rtol=0, atol=2e-4)
    merged.save_pretrained(tmp_path / "merged")
    reread = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(reread), trained, rtol=0, atol=2e-4)


def test_dora_refuses_a_row_that_has_no_length(tmp_path: Path) -> None:
    """That of the padding token, which transformers makes zero."""
    tied = make_base(tmp_path / "tied")
    config = recipe("lora", {"target_modules": ("lm_head", "q_proj"), "use_dora": True})
    with pytest.raises(BadRecipeError, match="lm_head has rows of zeros") as caught:
        LORA.attach(LORA.open(config, tied, CPU), config, ALONE)
    assert caught.value.mend == "add lm_head to train.lora.exclude_modules"
