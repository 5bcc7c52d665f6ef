"""Bottleneck adapters: where they sit in every family, that they learn, resume and come back."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from slmcompile.base.facts import read_model_facts
from slmcompile.console.errors import (
    BadRecipeError,
    CorruptError,
    SlmcompileError,
    StageFailedError,
)
from slmcompile.data.store import IGNORED, read_split
from slmcompile.facts.architecture import architecture
from slmcompile.files.artifact import write_json
from slmcompile.methods.bottleneck import Bottleneck, kept, trainable
from slmcompile.methods.keys import Train
from slmcompile.models import bottleneck
from slmcompile.models.merge import METHOD_FILE, load_merged
from slmcompile.training import fused_elementwise, hot_path
from slmcompile.training.layout import Layout
from slmcompile.training.loss import TrainedPositionLoss
from slmcompile.training.record import TrainingRecord
from tests.families import FAMILIES, SIZES, build
from tests.sections import train_section
from tests.stages import tiny_training
from tests.stages.test_training_hot_path import flat, plain_loss
from tests.stages.tiny_training import CPU, make_base, make_data

SHORT: dict[str, Any] = {
    "max_steps": 8,
    "eval_steps": 3,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 8,
    "precision": "bf16",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def recipe(adapters: Mapping[str, Any] | None = None, **changes: Any) -> Train:
    settings: dict[str, Any] = {
        "learning_rate": 1e-2,
        "num_train_epochs": 5.0,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "lr_scheduler_type": "cosine",
        "num_threads": 1,
        "bottleneck": Bottleneck(**{"style": "houlsby", "reduction_factor": 2, **(adapters or {})}),
    }
    return train_section(method="bottleneck", **{**settings, **changes})


def run(
    config: Train, base: Path, data: Path, folder: Path, stop_at: int | None = None
) -> TrainingRecord:
    record = tiny_training.run(config, base, data, folder, stop_at)
    write_json(folder / "weights" / METHOD_FILE, {"method": "bottleneck"})  # as the stage does
    return record


def held_out(model: Any, data: Path) -> tuple[float, float]:
    """Token accuracy and mean loss on validation, row by row."""
    hits, loss, count = 0, 0.0, 0
    for row in read_split(data, "validation"):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].float()
        targets = torch.tensor(row.labels[1:])
        trained = targets != IGNORED
        hits += int((logits.argmax(-1) == targets)[trained].sum())
        loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        count += int(trained.sum())
    return hits / count, loss / count


def with_adapters(family: str, settings: Bottleneck, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny model of a family with adapters that are not the identity any more."""
    model = build(family).to(dtype)
    bottleneck.attach(model, settings)
    model.to(dtype)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for placed in bottleneck.adapters_of(model):
            for weight in placed.adapter.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


@pytest.mark.parametrize("style", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_the_task_over_a_base_that_stays_as_it_is(
    base: Path, data: Path, tmp_path: Path, precision: str, style: str
) -> None:
    given = load_file(base / "model.safetensors")
    adapters = {"style": style, "reduction_factor": 2 if style == "houlsby" else 1}
    record = run(recipe(adapters, precision=precision), base, data, tmp_path)
    model = load_merged(base, tmp_path / "weights")
    accuracy, loss = held_out(model, data)
    assert record.train_loss_first > 5
    assert record.train_loss_last < 0.3
    # A completion is a label token and the stop token: knowing only the stop gives 0.5 + 1/16.
    assert accuracy > 0.95
    assert loss == pytest.approx(record.best_eval_loss, abs=1e-4 if precision == "fp32" else 2e-2)
    for name, weight in bottleneck.own_weights(model).items():
        if name in given:
            assert torch.equal(weight, given[name]), name
    assert record.fast_paths["fused_swiglu"] == 2
    assert record.fast_paths["fused_rms_norm"] == 5
    assert record.fast_paths["fused_head"] == 1
    weights = load_file(tmp_path / "weights" / bottleneck.WEIGHTS_FILE)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    # Masters, not the rounded copies that bf16 computes with.
    up = weights["model.layers.1.mlp.output_adapter.up.weight"]
    assert not torch.equal(up, up.to(torch.bfloat16).float())


def test_an_interrupted_run_resumes_to_the_same_bytes(
    base: Path, data: Path, tmp_path: Path
) -> None:
    config = recipe(**SHORT)
    run(config, base, data, tmp_path / "whole")
    with pytest.raises(SlmcompileError, match="step 6"):
        run(config, base, data, tmp_path / "cut", stop_at=6)
    assert list((tmp_path / "cut" / "weights").iterdir()) == []
    assert run(config, base, data, tmp_path / "cut").resumed_from == 6
    for name in (bottleneck.CONFIG_FILE, bottleneck.WEIGHTS_FILE):
        whole, cut = (tmp_path / each / "weights" / name for each in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_gradient_checkpointing_changes_nothing(base: Path, data: Path, tmp_path: Path) -> None:
    plain = run(recipe(max_steps=3), base, data, tmp_path / "plain")
    config = recipe(max_steps=3, gradient_checkpointing=True)
    saving = run(config, base, data, tmp_path / "saving")
    for one, other in zip(plain.curve, saving.curve, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_it_begins_as_the_base_model_exactly(family: str) -> None:
    model = build(family).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        bottleneck.attach(model, Bottleneck(style="houlsby", reduction_factor=4))
        assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize("style", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_weights_are_counted_before_any_model_is_made(
    tmp_path: Path, family: str, style: Any
) -> None:
    build(family).save_pretrained(tmp_path)
    facts = read_model_facts(tmp_path, family)
    assert facts is not None
    shapes = architecture(facts.config, facts.tensors, facts.dtypes)
    for leave_out in ((), (1,)):
        # 32 by 5 leaves something over.
        settings = Bottleneck(style=style, reduction_factor=5, leave_out=leave_out)
        model = with_adapters(family, settings)
        counted = trainable(train_section("bottleneck", bottleneck=settings), shapes)
        moved = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert counted.parameters == moved == counted.adapter > 0
        found = [(p.place.layer, p.place.sublayer) for p in bottleneck.adapters_of(model)]
        kinds = ["self_attn", "mlp"] if style == "houlsby" else ["mlp"]
        layers = [layer for layer in (0, 1) if layer not in leave_out]
        assert found == [(layer, kind) for layer in layers for kind in kinds]


def test_the_weights_behind_experts_are_counted_too(tmp_path: Path) -> None:
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    config = transformers.Qwen3MoeConfig(**{**SIZES, **experts})
    model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path)
    facts = read_model_facts(tmp_path, "experts")
    assert facts is not None
    shapes = architecture(facts.config, facts.tensors, facts.dtypes)
    assert shapes.has_experts
    settings = Bottleneck(style="houlsby", reduction_factor=4)
    before = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    bottleneck.attach(model, settings)
    moved = [p for p in model.parameters() if p.requires_grad]
    counted = trainable(train_section("bottleneck", bottleneck=settings), shapes)
    assert counted.parameters == sum(p.numel() for p in moved)
    after = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert torch.equal(after, before)
    after.sum().backward()
    assert sum(float(p.grad.abs().sum()) > 0 for p in moved) == 2 * 2 * 2  # W_up and its bias


OUTPUT_PROJECTIONS = ("o_proj", "down_proj")
ENTERS = {
    # What the sublayers' outputs enter: a norm of their own, or else the residual stream.
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_it_sits_right_behind_the_output_projection(family: str) -> None:
    """And so before a norm on the way to the residual add, and before a multiplier."""
    model = with_adapters(family, Bottleneck(style="houlsby", reduction_factor=4)).eval()
    layer = model.model.layers[0]
    seen: dict[str, torch.Tensor] = {}

    def note(name: str, *, before: bool = False) -> Any:
        def hook(_: Any, inputs: Any, *output: Any) -> None:
            seen[name] = (inputs[0] if before else output[0]).detach().clone()

        return hook

    for name in OUTPUT_PROJECTIONS:
        module = next(m for n, m in layer.named_modules() if n.endswith(name))
        module.register_forward_hook(note(name))
    adapters = layer.self_attn.mh_adapter, layer.mlp.output_adapter
    for name, adapter in zip(OUTPUT_PROJECTIONS, adapters, strict=True):
        adapter.register_forward_hook(note(f"{name} adapted"))
    for name in ENTERS.get(family, ()):
        getattr(layer, name).register_forward_pre_hook(note(name, before=True))
    layer.register_forward_pre_hook(note("stream", before=True))
    layer.register_forward_hook(note("result"))
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
        for name, adapter in zip(OUTPUT_PROJECTIONS, adapters, strict=True):
            given, made = seen[name], seen[f"{name} adapted"]
            inside = torch.relu(given @ adapter.down.weight.t() + adapter.down.bias)
            expected = given + inside @ adapter.up.weight.t() + adapter.up.bias
            torch.testing.assert_close(made, expected)
            assert not torch.allclose(made, given, atol=0.1)
    attended, mixed = (seen[f"{name} adapted"] for name in OUTPUT_PROJECTIONS)
    if family in ENTERS:
        for name, made in zip(ENTERS[family], (attended, mixed), strict=True):
            assert torch.equal(seen[name], made)
    else:
        scale = getattr(model.config, "residual_multiplier", 1.0)
        expected = seen["stream"] + attended * scale + mixed * scale
        torch.testing.assert_close(seen["result"], expected)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_fused_forms_compute_what_the_modelling_code_computes(family: str) -> None:
    """Behind adapters that have learnt something, as in a run that goes on."""
    plain = with_adapters(family, Bottleneck(style="houlsby", reduction_factor=4)).train()
    fused = copy.deepcopy(plain)
    layout, batch = Layout(), flat()
    paths = hot_path.install(fused, layout, {})
    expected = plain_loss(plain)
    expected.backward()
    loss = TrainedPositionLoss(fused, CPU)
    with layout.of(batch):
        got = loss(batch).sum()
        got.backward()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    grads = {n: p.grad for n, p in fused.named_parameters() if p.grad is not None}
    assert len(grads) == 2 * 2 * 4
    for name, parameter in plain.named_parameters():
        if name in grads:
            largest = parameter.grad.abs().max().item()
            assert largest > 0, name
            torch.testing.assert_close(
                grads[name], parameter.grad, rtol=0, atol=2e-5 * largest, msg=name
            )
        else:
            assert parameter.grad is None, name
    if family in {"llama", "mistral", "qwen2"}:
        assert paths["fused_swiglu"] == 2
        assert paths["fused_rms_norm"] > 0


@pytest.mark.parametrize("non_linearity", ["relu", "gelu", "gelu_new", "silu", "tanh"])
def test_what_autograd_keeps_is_what_the_estimate_counts(non_linearity: Any) -> None:
    tokens = 7

    def elements(settings: Bottleneck | None) -> int:
        model = build("llama").requires_grad_(requires_grad=False)
        if settings is not None:
            bottleneck.attach(model, settings)
        own = {p.data_ptr() for p in model.parameters()}
        held: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                held[tensor.data_ptr()] = tensor.numel()
            return tensor

        fused_elementwise.install_rms_norm(model)
        fused_elementwise.install_swiglu(model)
        # From the embeddings on, so that backward goes through every layer with or without them.
        inputs = torch.randn(1, tokens, 32, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        assert output.requires_grad
        return sum(held.values())

    settings = Bottleneck(
        style="houlsby", reduction_factor=4, non_linearity=non_linearity, leave_out=(0,)
    )
    config = train_section("bottleneck", bottleneck=settings)
    assert elements(settings) - elements(None) == tokens * kept(config, 32)


def test_a_model_without_the_places_is_refused() -> None:
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11)
    with pytest.raises(BadRecipeError, match=r"train\.bottleneck\.style: there is no place"):
        bottleneck.attach(transformers.GPT2LMHeadModel(config), Bottleneck())


def written(folder: Path, base: Path) -> Path:
    """An adapter that has learnt something, as training writes it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    bottleneck.attach(model, Bottleneck(style="houlsby", non_linearity="silu", leave_out=(0,)))
    weights = {n: torch.randn(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    folder.mkdir()
    bottleneck.write(model, weights, folder)
    write_json(folder / METHOD_FILE, {"method": "bottleneck"})
    return folder


def test_what_is_written_comes_back_with_its_settings(base: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", base)
    weights = load_file(folder / bottleneck.WEIGHTS_FILE)
    model = load_merged(base, folder)
    parameters = dict(model.named_parameters())
    assert len(weights) == 2 * 4
    for name, weight in weights.items():
        assert torch.equal(parameters[name], weight), name
    assert not any(p.requires_grad for p in parameters.values())
    told = json.loads((folder / bottleneck.CONFIG_FILE).read_text(encoding="utf-8"))
    assert told == {
        "format_version": "1.0",
        "style": "houlsby",
        "reduction_factor": 16,
        "non_linearity": "silu",
        "leave_out": [0],
    }
    assert {p.adapter.settings.non_linearity for p in bottleneck.adapters_of(model)} == {"silu"}


def test_a_folder_that_is_not_whole_or_of_another_base_is_corrupt(
    base: Path, tmp_path: Path
) -> None:
    folder = written(tmp_path / "adapter", base)
    other = make_base(tmp_path / "other", hidden_size=32)
    with pytest.raises(CorruptError, match="not those of this base model"):
        load_merged(other, folder)
    for name, content in (
        (bottleneck.CONFIG_FILE, "{}"),
        (bottleneck.CONFIG_FILE, '{"format_version": "1.0", "reduction_factor": 0}'),
        (bottleneck.WEIGHTS_FILE, "no safetensors"),
    ):
        broken = tmp_path / "broken"
        shutil.copytree(folder, broken)
        (broken / name).write_text(content, encoding="utf-8")
        with pytest.raises(CorruptError, match="not a bottleneck adapter"):
            load_merged(base, broken)
        (broken / name).unlink()
        with pytest.raises(CorruptError, match="not a bottleneck adapter"):
            load_merged(base, broken)
        shutil.rmtree(broken)


def test_weights_that_are_not_finite_never_ship(base: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", base)
    weights = load_file(folder / bottleneck.WEIGHTS_FILE)
    weights["model.layers.1.mlp.output_adapter.up.bias"][3] = float("inf")
    save_file(weights, folder / bottleneck.WEIGHTS_FILE)
    with pytest.raises(StageFailedError, match=r"output_adapter\.up\.bias holds NaN or infinite"):
        load_merged(base, folder)
