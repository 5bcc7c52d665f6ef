"""Opens an exported folder in the runtime of its provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError
from slmcompile.inference.protocol import ExportedModel
from slmcompile.providers import PROVIDERS
from slmcompile.registry.table import program


def open_exported(
    provider: str,
    folder: Path,
    threads: int | None = None,
    *,
    spinning: bool = True,
    adapter: Path | None = None,
) -> ExportedModel:
    """The model of a folder, ready to answer.

    Args:
        provider: as in ``target.NAME.execution_provider``.
        folder: may lie anywhere.
        threads: of the runtime; None leaves the choice to it.
        spinning: whether idle threads may wait busily; off where torch computes in turn with it.
        adapter: of a folder with several, the one to answer with.

    Raises:
        CorruptError: it cannot be opened, or the adapter is damaged (exit 74).
        BadRecipeError: the adapter is none of this folder's (exit 78).
        MissingError: its runtime is not installed (exit 69).
    """
    load: Callable[..., ExportedModel] = program(PROVIDERS[provider].opener)
    return load(folder, threads, spinning=spinning, adapter=adapter)


def provider_of(manifest: Mapping[str, Any], folder: Path) -> str:
    """The provider that a folder was built for, by its manifest.

    Raises:
        CorruptError: of none that is known here (exit 74).
    """
    name = manifest.get("info", {}).get("execution_provider")
    if name not in PROVIDERS:
        raise CorruptError(f"{folder}: built for no provider that is known", "export it again")
    return str(name)
