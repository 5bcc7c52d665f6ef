"""What the loop asks of a train method; each is imported by name, in ``exec`` alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

ALONE = "default"
"""Name of the one adapter of a plain recipe: PEFT's own."""


class MethodProgram(Protocol):
    """A train method at work. ``config`` is the section that its declaration names."""

    def open(self, config: Any, base: Path, device: torch.device) -> Any:
        """The base model, a causal language model of transformers, as it is trained over there.

        Raises:
            CorruptError: the folder holds no model that transformers can open (exit 74).
        """

    def attach(self, model: Any, config: Any, adapter: str) -> Any:
        """Adds what is trained, into the model itself; what returns has it among its parameters.

        Afterwards exactly these parameters require a gradient. Of adapters that are trained
        together it is asked for each, on what it returned before.

        Args:
            model: of ``open``.
            config: the member's section.
            adapter: what its adapter is called in the model, ``ALONE`` in a plain recipe.

        Raises:
            BadRecipeError: a name that the base model does not have (exit 78).
        """

    def write(
        self, model: Any, weights: Mapping[str, torch.Tensor], base: Path, out: Path, adapter: str
    ) -> None:
        """Writes what was trained; equal weights give equal bytes.

        Args:
            model: what ``attach`` returned.
            weights: the trained parameters by name, fp32.
            base: folder of the base model.
            out: an existing empty folder.
            adapter: as it was attached.
        """

    def read(
        self, model: Any, names: Collection[str], trained: Path, adapter: str
    ) -> Mapping[str, torch.Tensor]:
        """What ``write`` wrote, by the names that it was given.

        Args:
            model: what ``attach`` returned.
            names: of the trained parameters.
            trained: the folder.
            adapter: as it was attached.

        Raises:
            CorruptError: it is incomplete, or of other shapes (exit 74).
        """

    def apply(self, model: Any, trained: Path) -> Any:
        """The base model, fp32, with what was trained in it: in its weights where that merges.

        Not asked of a method that writes a model of its own.

        Raises:
            CorruptError: the folder is incomplete (exit 74).
            StageFailedError: the weights are not finite (exit 1).
        """
