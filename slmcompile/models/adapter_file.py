"""Adapters in onnxruntime's format (``.onnx_adapter``), and whether one fits a graph.

Knows onnxruntime 1.31's ``AdapterFormat``; the format is checked in its structure alone, so a
manifest has to tell whether a weight in it is what was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError
from slmcompile.models.adapter_layout import DTYPE, AdapterLayout, DownInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slmcompile.models.low_rank import LowRank

SUFFIX = ".onnx_adapter"


def write_adapter_file(adapter: Mapping[str, LowRank], layout: AdapterLayout, path: Path) -> None:
    """One adapter for a graph; equal weights give equal bytes.

    Every input is in it, of rank 0 where the adapter has nothing, so that of a default nothing is
    left where this one is set.

    Raises:
        BadRecipeError: the adapter has a module that the graph has no place for (exit 78).
        MissingError: the disk is full, or the folder cannot be written (exit 69).
    """
    from onnxruntime import AdapterFormat, OrtValue

    # Kept until they are written: OrtValues may look into numpy's memory.
    values = layout.values(adapter)
    file = AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters({name: OrtValue.ortvalue_from_numpy(a) for name, a in values.items()})
    try:
        file.export_adapter(str(path))
    except RuntimeError as error:
        # The reason is not told.
        raise MissingError(
            f"{path}: onnxruntime cannot write it",
            "see whether the disk is full or the folder gone",
        ) from error


def require_fits(layout: AdapterLayout, path: Path) -> None:
    """Refuses a file that is no adapter of a graph's.

    Raises:
        CorruptError: it is missing or cannot be read (exit 74).
        BadRecipeError: it was made for another graph (exit 78).
    """
    values = _read(path)
    for down in layout.downs:
        _require_down(down, values, path)
    wanted = {name for down in layout.downs for name in _names(down)}
    if more := sorted(set(values) - wanted):
        raise _of_another(path, f"it has {more[0]}, which the graph does not take")


def _read(path: Path) -> dict[str, NDArray[Any]]:
    from onnxruntime import AdapterFormat

    if not path.is_file():
        raise CorruptError(f"{path}: there is no such adapter", "export it again")
    try:
        # Its values lie in the file's buffer, which goes when it goes.
        file = AdapterFormat.read_adapter(str(path))
        return {name: value.numpy().copy() for name, value in file.get_parameters().items()}
    except RuntimeError as error:
        raise CorruptError(
            f"{path}: damaged, no adapter can be read from it", "export it again"
        ) from error


def _require_down(down: DownInput, values: Mapping[str, NDArray[Any]], path: Path) -> None:
    for name in _names(down):
        if name not in values:
            raise _of_another(path, f"it lacks {name}")
        kind = "int64" if name == down.ranks else DTYPE
        if values[name].dtype != kind:
            raise _of_another(path, f"{name} is {values[name].dtype}, and the graph takes {kind}")
    ranks = list(values[down.name].shape[1:])
    if down.ranks is not None:
        ranks = values[down.ranks].tolist()
    _require_shape(path, down.name, values[down.name], (down.in_features, sum(ranks)))
    by_module = dict(zip(down.modules, ranks, strict=False))
    for up in down.ups:
        _require_shape(path, up.name, values[up.name], (by_module.get(up.module, 0), up.width))


def _names(down: DownInput) -> list[str]:
    return [down.name, *([] if down.ranks is None else [down.ranks]), *(up.name for up in down.ups)]


def _require_shape(path: Path, name: str, value: NDArray[Any], shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise _of_another(path, f"{name} is {list(value.shape)}, and the graph takes {list(shape)}")


def _of_another(path: Path, why: str) -> BadRecipeError:
    return BadRecipeError(
        f"{path}: made for another graph: {why}",
        "name an adapter that was exported for this one",
    )
