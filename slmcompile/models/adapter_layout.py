"""Which run-time inputs of a graph hold what of a LoRA adapter, and an adapter's values for them.

Projections that read the same value share one joined A. The ranks of what is joined are an input
too, so each adapter has its own and none is padded; no adapter is rank 0 everywhere.
Knows no graph and no file format of adapters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import BadRecipeError, CorruptError
from slmcompile.files.artifact import write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slmcompile.models.low_rank import LowRank

LAYOUT_FILE = "adapter_inputs.json"
FORMAT_VERSION = "1.0"
DTYPE = "float32"
"""Of A and B, as of the activations beside which they stand."""


@dataclass(frozen=True, slots=True)
class UpInput:
    """B of a module, or of those of its features that one product of the graph gives.

    Attributes:
        name: of the graph's input, [rank, width].
        module: its name in the base model.
        features: from which of the module's output features to which.
        start: where those stand among ``width``; the rest is no adapter's and stays zero.
        width: features of the product's output that it is added to.
    """

    name: str
    module: str
    features: tuple[int, int]
    start: int
    width: int


@dataclass(frozen=True, slots=True)
class DownInput:
    """A of modules that read the same value, and what is behind it.

    Attributes:
        name: of the graph's input, [in_features, sum of ranks].
        in_features: width of the value that is read.
        modules: their names in the base model, in the order of their ranks.
        ranks: name of the int64 input that has the rank of each; None where there is one module.
        ups: each module's, in the order in which they are added.
    """

    name: str
    in_features: int
    modules: tuple[str, ...]
    ranks: str | None
    ups: tuple[UpInput, ...]


@dataclass(frozen=True, slots=True)
class AdapterLayout:
    """All inputs of a graph that an adapter fills."""

    downs: tuple[DownInput, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each module that an adapter may be on: [out, in]."""
        found: dict[str, tuple[int, ...]] = {}
        for down in self.downs:
            for up in down.ups:
                rows = max(up.features[1], found.get(up.module, (0, 0))[0])
                found[up.module] = (rows, down.in_features)
        return found

    def values(self, adapter: Mapping[str, LowRank]) -> dict[str, NDArray[Any]]:
        """What every input is given for an adapter; rank 0 of a module that it has nothing for.

        Raises:
            BadRecipeError: the adapter has a module that the graph has no place for (exit 78).
        """
        shapes = self.shapes()
        for module, low_rank in sorted(adapter.items()):
            shape = (low_rank.up.shape[0], low_rank.down.shape[1])
            if shape != shapes.get(module):
                place = f"one of {list(shapes[module])}" if module in shapes else "none"
                raise BadRecipeError(
                    f"the adapter has weights for {module}, [out, in] {list(shape)}, and the graph"
                    f" has a place for {place}",
                    "build the graph for the target modules of all adapters, over their base",
                )
        return dict(value for down in self.downs for value in _values(down, adapter))


def _values(down: DownInput, adapter: Mapping[str, LowRank]) -> Iterator[tuple[str, NDArray[Any]]]:
    import numpy as np

    ranks = {name: adapter[name].rank if name in adapter else 0 for name in down.modules}
    joined = [adapter[name].down.T for name in down.modules if name in adapter]
    nothing = np.zeros((down.in_features, 0), DTYPE)
    yield down.name, np.ascontiguousarray(np.concatenate([nothing, *joined], axis=1), DTYPE)
    if down.ranks is not None:
        yield down.ranks, np.asarray(list(ranks.values()), np.int64)
    for up in down.ups:
        value = np.zeros((ranks[up.module], up.width), DTYPE)
        if up.module in adapter:
            first, end = up.features
            value[:, up.start : up.start + end - first] = adapter[up.module].up[first:end].T
        yield up.name, value


def write_layout(layout: AdapterLayout, folder: Path) -> None:
    """Beside the graph."""
    write_json(folder / LAYOUT_FILE, {"format_version": FORMAT_VERSION, **asdict(layout)})


def read_layout(folder: Path) -> AdapterLayout:
    """What ``write_layout`` wrote.

    Raises:
        BadRecipeError: the folder's graph takes no adapters (exit 78).
        CorruptError: the file is not what was written (exit 74).
    """
    path = folder / LAYOUT_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["format_version"]
        downs = tuple(_down(each) for each in found["downs"])
    except FileNotFoundError as error:
        raise BadRecipeError(
            f"{folder}: its graph takes no adapters",
            "name a folder that was exported with adapters",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path}: unreadable ({error})", "export it again") from error
    if version != FORMAT_VERSION:
        raise CorruptError(f"{path}: of version {version}", "open it with a newer slmcompile")
    return AdapterLayout(downs)


def _down(found: Mapping[str, Any]) -> DownInput:
    ups = tuple(UpInput(**{**each, "features": tuple(each["features"])}) for each in found["ups"])
    return DownInput(**{**found, "modules": tuple(found["modules"]), "ups": ups})
