"""What autograd keeps for backward is what the memory's prediction counts, whatever the adapter."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from slmcompile.data.store import Row
from slmcompile.estimate.memory import decoder_of, kept_for_backward
from slmcompile.methods.lora import Lora
from slmcompile.training import hot_path
from slmcompile.training.batches import MicroBatch, collate
from slmcompile.training.layout import Layout
from slmcompile.training.master_weights import MasterWeights
from slmcompile.training.methods.lora import LORA
from slmcompile.training.methods.protocol import ALONE
from tests.family_folders import architecture_of_folder
from tests.sections import train_section
from tests.stages.tiny_training import CPU, make_base

ROWS, LENGTH = 4, 100


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), num_hidden_layers=4)


class Saved:
    """What autograd holds in place of a tensor, for as long as it holds it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def kept_bytes(model: Any, layout: Layout) -> int:
    """Of the tensors that a forward pass leaves saved, each storage once, parameters left out."""
    given = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    held: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> Saved:
        saved = Saved(tensor)
        held.add(saved)
        return saved

    ids = [torch.randint(2, 500, (LENGTH,)).tolist() for _ in range(ROWS)]
    rows = [Row(number, "", "", "", row[:1], row, row) for number, row in enumerate(ids)]
    batch = collate([MicroBatch("", rows)], CPU)
    with layout.of(batch), torch.autograd.graph.saved_tensors_hooks(pack, lambda s: s.tensor):
        found = model.model(batch.input_ids, position_ids=batch.position_ids, use_cache=False)
    assert found.last_hidden_state.requires_grad
    storages = (saved.tensor.untyped_storage() for saved in held)
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return sum(size for place, size in sizes.items() if place not in given)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"use_dora": True},
        {"rank_pattern": {"down_proj": 32}},
        {"layers_to_transform": (3,)},
        {"layers_to_transform": (2, 3), "use_dora": True},
    ],
)
def test_the_prediction_is_within_4_percent_of_what_is_kept(
    base: Path, variant: dict[str, Any], precision: Any
) -> None:
    config = train_section(lora=Lora(r=8, **variant), precision=precision)
    shapes = architecture_of_folder(base)
    decoder = decoder_of(shapes)
    assert decoder is not None
    model = LORA.open(config, base, CPU)
    adapted = LORA.attach(model, config, ALONE)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    MasterWeights(trained, getattr(torch, DTYPES[precision]))
    layout = Layout()
    hot_path.install(model, layout, {"": ALONE})
    model.train()
    expected = kept_for_backward(config, shapes, decoder, ROWS, LENGTH)
    assert kept_bytes(model, layout) == pytest.approx(expected, rel=0.04)


DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
