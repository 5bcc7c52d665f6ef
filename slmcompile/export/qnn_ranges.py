"""In what range each value of a model lies, found by running it over rows of training.

Rows stand one behind another in full sequences, each with its own positions and hidden from the
others, so that no padding widens a range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from slmcompile.export.qnn_layers import HIDDEN, Shape
from slmcompile.export.qnn_net import Range
from slmcompile.inference.qnn_runtime import on_cpu

_LONGEST = 512
"""Tokens that are run at once: scores of all with all are in memory."""


def shape_for_ranges(shape: Shape) -> Shape:
    """Of the graph that is run: nearly all of the context is new."""
    return replace(shape, new=min(shape.context - 1, _LONGEST))


def ranges_of(graph: Path, shape: Shape, rows: Sequence[Sequence[int]]) -> dict[str, Range]:
    """The least and the largest number of every value, over all rows.

    Args:
        graph: one that does not round, of ``shape_for_ranges``.
        shape: its sizes.
        rows: token ids; at least one row that is not empty.
    """
    session = on_cpu(graph, None, spinning=False)
    names = [each.name for each in session.get_outputs() if each.name.endswith(("Min", "Max"))]
    size = (1, shape.key_heads, shape.past, shape.head)
    nothing = np.zeros(size, np.float32)
    layers = range(shape.layers)
    past = {f"past.{part}.{layer}": nothing for layer in layers for part in ("key", "value")}
    found: dict[str, Range] = {}
    for given in _sequences(shape, [row[: shape.new] for row in rows if row]):
        told = dict(zip(names, session.run(names, {**given, **past}), strict=True))
        for name in {name.rpartition(".")[0] for name in names}:
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (
                min(low, float(told[f"{name}.ReduceMin"])),
                max(high, float(told[f"{name}.ReduceMax"])),
            )
    return found


def _sequences(shape: Shape, rows: Sequence[Sequence[int]]) -> Iterator[dict[str, Any]]:
    """Inputs of full sequences; the last one is filled up with the first rows again."""
    waiting = cycle(rows)
    for _ in range(-(-sum(map(len, rows)) // shape.new)):
        ids: list[int] = []
        positions: list[int] = []
        mask = np.full((1, 1, shape.new, shape.context), HIDDEN, np.float32)
        while len(ids) < shape.new:
            row = next(waiting)[: shape.new - len(ids)]
            start = shape.past + len(ids)
            own = slice(start, start + len(row))
            seen = np.tri(len(row), dtype=bool)
            mask[0, 0, len(ids) : len(ids) + len(row), own][seen] = 0.0
            ids += row
            positions += range(len(row))
        yield {
            "input_ids": np.array([ids], np.int32),
            "position_ids": np.array(positions, np.int32),
            "mask": mask,
        }
