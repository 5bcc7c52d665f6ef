"""The fused forms compute what transformers and PEFT compute, for every family that we name."""

from __future__ import annotations

import copy
import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from slmcompile.data.store import IGNORED, Row
from slmcompile.methods.lora import Lora
from slmcompile.models.adapter import attach
from slmcompile.training import flat_attention, hot_path
from slmcompile.training.batches import Batch, MicroBatch, collate
from slmcompile.training.dropout import RowDropout
from slmcompile.training.grouped_attention import causal_bias
from slmcompile.training.layout import Layout
from slmcompile.training.loss import FrozenHeadLoss, TrainedPositionLoss
from slmcompile.training.master_weights import MasterWeights
from tests.families import SIZES

ALONE_IN_IT = {"": "default"}
CPU = torch.device("cpu")
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-bias": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "phi3": ("Phi3", {}),
    "mistral-window": ("Mistral", {"sliding_window": 4}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {}),
    "gemma3": ("Gemma3Text", {"sliding_window": 4}),
    "granite": ("Granite", {"logits_scaling": 3.0}),
}


def test_the_loss_makes_its_tensors_where_the_model_is() -> None:
    meta = torch.device("meta")
    hidden = torch.empty(5, 8, device=meta, requires_grad=True)
    targets = torch.empty(5, dtype=torch.int64, device=meta)
    losses = FrozenHeadLoss.apply(hidden, torch.empty(11, 8, device=meta), None, targets)
    losses.sum().backward()
    assert hidden.grad is not None
    assert {losses.device.type, hidden.grad.device.type} == {"meta"}
    assert causal_bias(7, 2, torch.float32, meta).device.type == "meta"


def test_the_probe_of_the_head_is_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations mix this device with the CPU in silence, so the tokens are looked at."""
    seen: list[str] = []
    monkeypatch.setattr(
        TrainedPositionLoss, "_decode", lambda _, tokens: seen.append(tokens.device.type) or tokens
    )
    monkeypatch.setattr(torch, "equal", lambda *_: True)

    class Model(torch.nn.Module):
        head = torch.nn.Linear(8, 11, device="meta").requires_grad_(requires_grad=False)

        def get_output_embeddings(self) -> Any:
            return self.head

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            seen.append(input_ids.device.type)
            return SimpleNamespace(logits=input_ids)

    model = Model()
    monkeypatch.setattr(type(model.head), "forward", lambda _, hidden: hidden)
    TrainedPositionLoss(model, torch.device("meta"))
    assert seen == ["meta", "meta"]


EVERYWHERE = ("llama", "llama-bias", "qwen2", "qwen3", "mistral-window")


def build(family: str, lora: Lora, dtype: torch.dtype) -> tuple[Any, MasterWeights]:
    name, changes = FAMILIES[family]
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    base = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    model = attach(base, lora)
    for parameter_name, weight in model.named_parameters():
        if "lora_B" in parameter_name:
            # PEFT starts B at zero, where A has no gradient to compare.
            torch.nn.init.normal_(weight, std=0.2)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return model, MasterWeights(trained, dtype)


def rows() -> list[Row]:
    draw = torch.Generator().manual_seed(5)
    made = []
    for number, (prompt, answer) in enumerate([(5, 3), (2, 6), (9, 1), (4, 4), (1, 2)]):
        ids = torch.randint(1, 97, (prompt + answer,), generator=draw).tolist()
        labels = [IGNORED] * prompt + ids[prompt:]
        made.append(Row(number, "", "", "", ids[:prompt], ids, labels))
    return made


def flat(step: int = 0) -> Batch:
    return collate([MicroBatch("", rows(), step)], CPU)


def plain_loss(model: Any) -> torch.Tensor:
    """As anybody would write it: one padded batch, a mask, the whole head, torch's loss."""
    width = max(len(row.input_ids) for row in rows())
    ids = torch.zeros(len(rows()), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for number, row in enumerate(rows()):
        length = len(row.input_ids)
        ids[number, :length] = torch.tensor(row.input_ids)
        labels[number, :length] = torch.tensor(row.labels)
        mask[number, :length] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.float() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def both(
    family: str, lora: Lora, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any], dict[str, Any], dict[str, int]]:
    """(plain loss, our loss, plain gradients, our gradients, fast paths)."""
    model, _ = build(family, lora, dtype)
    model.train()
    expected = plain_loss(model)
    expected.backward()
    expected_gradients = gradients(model)
    layout = Layout()
    paths = hot_path.install(model.get_base_model(), layout, ALONE_IN_IT)
    loss = TrainedPositionLoss(model.get_base_model(), CPU)
    batch = flat()
    with layout.of(batch):
        got = loss(batch).sum()
        got.backward()
    paths["fused_head"] = int(loss.fused)
    return expected.detach(), got.detach(), expected_gradients, gradients(model), paths


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_fp32_loss_and_gradients_are_those_of_peft(family: str) -> None:
    expected, got, expected_grad, grad, paths = both(family, Lora(r=4), torch.float32)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert grad.keys() == expected_grad.keys()
    assert len(grad) > 10
    for name, value in expected_grad.items():
        assert value.abs().max() > 0, name
        # Relative to the tensor's largest entry: a sum's rounding does not shrink with it.
        torch.testing.assert_close(
            grad[name], value, rtol=0, atol=2e-5 * value.abs().max().item(), msg=name
        )
    assert paths["fused_lora"] == (8 if family == "phi3" else 14)
    if family in EVERYWHERE:
        # Qwen3 norms queries and keys: its attention is its own, the rest of its layers is not.
        own = {"attention_block"} if family == "qwen3" else set()
        assert {name for name, count in paths.items() if not count} == own, paths


@pytest.mark.parametrize("family", EVERYWHERE)
def test_bf16_is_as_near_to_fp32_as_peft_in_bf16(family: str) -> None:
    """Rounding errors of both forms against the exact gradient; ours may not be much larger."""
    _, got, plain_grad, grad, _ = both(family, Lora(r=4), torch.bfloat16)
    exact, _, exact_grad, _, _ = both(family, Lora(r=4), torch.float32)
    assert got.item() == pytest.approx(exact.item(), rel=0.03)

    def error(found: dict[str, torch.Tensor]) -> float:
        gaps = [(found[n] - g).norm() ** 2 for n, g in exact_grad.items()]
        size = [g.norm() ** 2 for g in exact_grad.values()]
        return float((sum(gaps) / sum(size)) ** 0.5)

    assert error(grad) < 0.2
    assert error(grad) < 1.5 * error(plain_grad) + 0.01


@pytest.mark.parametrize(
    ("family", "apart"),
    [("llama", True), ("gemma2", True), ("mistral-window", True), ("lfm2", False)],
)
def test_rows_that_a_model_mixes_are_noticed(family: str, apart: bool) -> None:
    """LFM2 has short convolutions, which run over the whole of a flat batch."""
    name, changes = {**FAMILIES, "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"]})}[
        family
    ]
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    base = transformers.AutoModelForCausalLM.from_config(config)
    layout = Layout()
    flat_attention.install(base, layout)
    assert flat_attention.rows_are_apart(base, layout, "", CPU) == apart


def dropped(p: float) -> tuple[Any, Any, Layout, TrainedPositionLoss]:
    model, _ = build("llama", Lora(r=4, lora_dropout=p), torch.float32)
    layout = Layout()
    paths = hot_path.install(model.get_base_model(), layout, ALONE_IN_IT)
    assert paths["fused_lora"] == 14
    assert paths["attention_block"] == paths["feed_forward_block"] == 0, "they drop nothing"
    model.train()
    return model, paths, layout, TrainedPositionLoss(model.get_base_model(), CPU)


def test_dropout_is_a_function_of_step_and_row_alone() -> None:
    model, _, layout, loss = dropped(0.5)

    def losses(batch: Batch) -> torch.Tensor:
        with layout.of(batch), torch.no_grad():
            return loss(batch)

    torch.manual_seed(1)
    whole = losses(flat(step=3))
    before = torch.get_rng_state()
    assert torch.equal(losses(flat(step=3)), whole)
    assert torch.equal(torch.get_rng_state(), before), "torch's global generator was drawn from"
    assert not torch.allclose(losses(flat(step=4)), whole, atol=1e-3)
    # A row alone loses what it loses in company.
    alone = [losses(collate([MicroBatch("", [row], 3)], CPU)) for row in rows()]
    torch.testing.assert_close(torch.cat(alone), whole, rtol=1e-4, atol=1e-5)
    model.eval()
    without = losses(flat(step=3))
    assert not torch.allclose(without, whole, atol=1e-3)
    assert torch.equal(losses(flat(step=4)), without)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    model, _, layout, _ = dropped(p)
    drop = next(m for m in model.modules() if isinstance(m, RowDropout))
    ones = torch.ones(1, sum(len(row.input_ids) for row in rows()), 4000)
    with layout.of(flat()):
        got = drop(ones)
    assert (got == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert got.mean().item() == pytest.approx(1, abs=0.01)
    assert got.unique().tolist() == [0.0, pytest.approx(1 / (1 - p), rel=1e-4)]


def test_of_the_highest_dropout_that_a_recipe_may_ask_for_something_is_kept() -> None:
    drop = RowDropout(Layout(), "", "q_proj", math.nextafter(1.0, 0.0), 0)
    assert math.isfinite(drop.scale)


def test_gradients_behind_dropout_are_those_of_finite_differences() -> None:
    """The fused form computes its own backward pass; in float64 a difference quotient tells."""
    model, _, layout, loss = dropped(0.5)
    model.double()
    batch = flat(step=2)

    def total() -> torch.Tensor:
        with layout.of(batch):
            return loss(batch).sum()

    total().backward()
    for name, weight in model.named_parameters():
        if "lora_" not in name or "layers.0" not in name:
            continue
        at = divmod(int(weight.grad.abs().argmax()), weight.shape[1])
        with torch.no_grad():
            weight[at] += 1e-6
            above = total()
            weight[at] -= 2e-6
            below = total()
            weight[at] += 1e-6
        assert weight.grad[at].item() == pytest.approx(((above - below) / 2e-6).item(), rel=1e-4)


@pytest.mark.parametrize("family", EVERYWHERE)
def test_gradients_in_float64_are_those_of_the_plain_path(family: str) -> None:
    """Far below what any formula but the same one could be off by, of every trained matrix."""
    lora = Lora(r=4, rank_pattern={"k_proj": 2}, alpha_pattern={"up_proj": 3.0})
    model, _ = build(family, lora, torch.float32)
    model.double().train()
    norms = [m for m in model.modules() if hasattr(m, "variance_epsilon")]
    for norm in norms:
        # transformers' own computes in fp32 whatever it is given.
        norm.forward = partial(rms_norm_in_full, norm)
    for row in rows():
        logits = model(input_ids=torch.tensor([row.input_ids]), use_cache=False).logits[0]
        wanted = torch.tensor(row.labels[1:])
        torch.nn.functional.cross_entropy(logits[:-1], wanted, reduction="sum").backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for norm in norms:
        del norm.forward
    layout = Layout()
    paths = hot_path.install(model.get_base_model(), layout, ALONE_IN_IT)
    assert paths["feed_forward_block"] == 2
    assert paths["attention_block"] == (0 if family == "qwen3" else 2)
    loss, batch = TrainedPositionLoss(model.get_base_model(), CPU), flat()
    with layout.of(batch):
        loss(batch).sum().backward()
    got = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().max() > 0, name
        bound = 1e-10 * value.abs().max().item()
        torch.testing.assert_close(got[name], value, rtol=0, atol=bound, msg=name)


def rms_norm_in_full(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """The formula, in the dtype of x."""
    mean = x.square().mean(-1, keepdim=True)
    return norm.weight * x / (mean + norm.variance_epsilon).sqrt()


@pytest.mark.parametrize("layer", [0, 1])
def test_no_gradient_goes_below_the_first_adapter(layer: int) -> None:
    model, _ = build("llama", Lora(r=4, layers_to_transform=(layer,)), torch.float32)
    layout = Layout()
    paths = hot_path.install(model.get_base_model(), layout, ALONE_IN_IT)
    assert paths["attention_block"] == 2
    loss, seen = TrainedPositionLoss(model.get_base_model(), CPU), {}
    decoder = model.get_base_model().get_decoder()
    for number, each in enumerate(decoder.layers):
        each.register_forward_hook(
            lambda _, inputs, output, number=number: seen.__setitem__(
                number, (inputs[0].requires_grad, output.requires_grad)
            )
        )
    batch = flat()
    with layout.of(batch):
        loss(batch).sum().backward()
    assert seen == {number: (number > layer, number >= layer) for number in (0, 1)}
    assert decoder.embed_tokens.weight.grad is None


@pytest.mark.parametrize("kept", ["lm_head", "norm", "embed_tokens"])
def test_modules_to_save_get_the_gradient_of_peft(kept: str) -> None:
    lora = Lora(r=4, modules_to_save=(kept,))
    expected, got, expected_grad, grad, paths = both("llama", lora, torch.float32)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert any(f"{kept}.modules_to_save" in name for name in grad)
    for name, value in expected_grad.items():
        torch.testing.assert_close(
            grad[name], value, rtol=0, atol=2e-5 * value.abs().max().item(), msg=name
        )
    assert paths["fused_head"] == (kept != "lm_head")


def test_logits_that_are_capped_after_the_head_do_not_take_the_fused_head() -> None:
    model, _ = build("gemma2", Lora(r=4), torch.float32)
    assert not TrainedPositionLoss(model.get_base_model(), CPU).fused


def test_a_loss_in_many_chunks_is_the_loss_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = both("llama", Lora(r=4), torch.float32)
    monkeypatch.setattr("slmcompile.training.loss.LOGITS_AT_ONCE", 3 * 97)
    parts = both("llama", Lora(r=4), torch.float32)
    torch.testing.assert_close(parts[1], whole[1])
    for name, value in whole[3].items():
        torch.testing.assert_close(parts[3][name], value, rtol=1e-4, atol=1e-5)


def test_masters_keep_what_bf16_would_round_away() -> None:
    model, weights = build("llama", Lora(r=4), torch.bfloat16)
    name, master = next(iter(weights.masters.items()))
    before = copy.deepcopy(model.state_dict()[name])
    with torch.no_grad():
        for _ in range(100):
            master.mul_(1 + 1e-4)
    weights.publish()
    after = model.state_dict()[name]
    assert after.dtype == torch.bfloat16
    assert (after.float() / before.float()).mean().item() == pytest.approx(1.01, abs=2e-3)
