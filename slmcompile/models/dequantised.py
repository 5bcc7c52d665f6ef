"""Puts into a torch model the weights that an ONNX graph of it multiplies with.

So that what is trained or measured in torch is over what ships, and not over what that was rounded
from. The graph's rounding is kept to the number in fp32; in bf16 it is rounded once more. Norms and
biases are in the graph what they are in the base.

Knows transformers' models and where their weights are in a graph; knows no quantiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slmcompile.console.errors import CorruptError, StageFailedError
from slmcompile.models.graph_products import Product, embedding, products
from slmcompile.models.graph_weights import Matrix, of_embedding, of_product, open_graph

FARTHEST = 0.5
"""Largest relative error (Frobenius) of a matrix that is still taken for the base's own; 4 bits
cost about 0.1, another matrix of the model is at 1.4."""

_AT_ONCE = 1 << 20
"""Weights that are dequantised at a time."""


def put_into(model: Any, folder: Path) -> float:
    """Gives every linear layer, the embedding and the head the graph's weights, in their own dtype.

    A head that is the embedding again stays so where the graph has one for both; where it has two,
    the model has from now on too.

    Args:
        model: a causal language model of transformers with the base's weights, as it was opened.
        folder: ``model.onnx`` and its data, built of that base.

    Returns:
        The relative error (Frobenius) of all of them together.

    Raises:
        CorruptError: the folder's files are damaged (exit 74).
        StageFailedError: the graph is not one of this model (exit 1).
    """
    graph = open_graph(folder)
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    shapes = {name: _shape(module.weight) for name, module in linears.items()}
    found, table = products(graph, shapes), embedding(graph)
    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    was = tokens.weight
    tied = head is not None and head.weight is was
    if tied and not table.shared:
        _untie(model, head)
    errors = []
    for name, module in linears.items():
        like = was if tied and module is head else module.weight
        errors.append(_put(name, module.weight.data, like.data, _of(found[name])))
    if not (tied and table.shared):
        whole = (of_embedding(table, _shape(was)), slice(0, len(was)))
        errors.append(_put("the embedding", was.data, was.data, [whole]))
    off, size = (sum(part) for part in zip(*errors, strict=True))
    return _relative(off, size)


def _of(parts: Sequence[Product]) -> list[tuple[Matrix, slice]]:
    return [(of_product(part), part.rows) for part in parts]


def _put(
    name: str, into: torch.Tensor, like: torch.Tensor, parts: Sequence[tuple[Matrix, slice]]
) -> tuple[float, float]:
    """Rows of matrices, one after another, in place of a module's weights.

    Returns the squared Frobenius norms of what is lost and of the base's weights.

    Args:
        name: of the module.
        into: [out, in], what is written to.
        like: [out, in], the base's weights, which these must be near; may be ``into``.
        parts: matrices and which of their rows.
    """
    step = max(1, _AT_ONCE // max(1, into.shape[1]))
    off = size = 0.0
    place = 0
    for matrix, rows in parts:
        for start in range(rows.start, rows.stop, step):
            found = matrix.rows(start, min(start + step, rows.stop))
            if found.shape[1] != into.shape[1] or place + len(found) > len(into):
                raise _another(name, f"it has rows of {found.shape[1]} weights")
            before = like[place : place + len(found)].to("cpu", torch.float32)
            off += float((found - before).double().square().sum())
            size += float(before.double().square().sum())
            into[place : place + len(found)].copy_(found)
            place += len(found)
    if not isfinite(off):
        raise CorruptError(
            f"the ONNX graph's weights of {name} are not finite numbers",
            "remove the folder and run the recipe again; it will be built again",
        )
    if place != len(into) or off > FARTHEST**2 * size:
        raise _another(name, f"relative error {_relative(off, size):.2f}")
    return off, size


def _relative(off: float, size: float) -> float:
    return float((off / max(size, 1e-30)) ** 0.5)


def _untie(model: Any, head: Any) -> None:
    """Weights of its own for an output head that is the embedding again; not yet the right ones."""
    shared = head.weight
    head.weight = nn.Parameter(torch.empty_like(shared), requires_grad=shared.requires_grad)
    model.config.tie_word_embeddings = False


def _shape(weight: torch.Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]


def _another(name: str, why: str) -> StageFailedError:
    return StageFailedError(
        f"the ONNX graph does not hold the base model's weights of {name}: {why}",
        "report it with the model's architecture",
    )
