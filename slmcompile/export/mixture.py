"""Chooses which groups of weights are 4 bits wide, from what was measured of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from slmcompile.console.errors import BadRecipeError, CorruptError
from slmcompile.export.rounding import Algorithm
from slmcompile.providers.cpu import CpuTarget
from slmcompile.providers.mixed import NARROW, Group, bits_between
from slmcompile.shapes.blocks import WIDE


@dataclass(frozen=True)
class Mixture:
    """How wide every matrix is.

    Attributes:
        algorithm: how weights are rounded.
        block: weights of 4 bits that share one scale.
        groups: of the model.
        chosen: 4 or 8 by a group's name.
    """

    algorithm: Algorithm
    block: int
    groups: tuple[Group, ...]
    chosen: Mapping[str, int]

    @cached_property
    def bits(self) -> Mapping[str, int]:
        """By a module's name, the head's too."""
        return {name: self.chosen[group.name] for group in self.groups for name in group.modules}

    @property
    def bits_per_weight(self) -> float:
        """On average, scales and zero points counted."""
        sizes = (g.narrow if self.chosen[g.name] == NARROW else g.wide for g in self.groups)
        return 8 * sum(sizes) / max(1, sum(group.weights for group in self.groups))

    def described(self, probes: Mapping[str, Any]) -> dict[str, Any]:
        """For a manifest: what was chosen, and what was measured to choose by."""
        return {
            "algorithm": self.algorithm,
            "bits_per_weight": round(self.bits_per_weight, 4),
            "rows": probes["rows"],
            "nll": probes["nll"],
            "all_narrow": probes["all_narrow"],
            "groups": [
                {
                    "name": group.name,
                    "bits": self.chosen[group.name],
                    "weights": group.weights,
                    **probes["groups"][group.name],
                }
                for group in self.groups
            ],
        }


def mixture_of(target: CpuTarget, groups: tuple[Group, ...], probes: Mapping[str, Any]) -> Mixture:
    """The mixture that a target gets.

    Args:
        target: says how small it has to be.
        groups: of the model that is exported.
        probes: as ``slmcompile.export.probe.probe`` measured them of it.

    Raises:
        CorruptError: what was measured is not of this model (exit 74).
        BadRecipeError: it cannot be made that small (exit 78).
    """
    if probes["groups"].keys() != {group.name for group in groups}:
        raise CorruptError(
            "what was measured of the model's weights is not of this model", "run the recipe again"
        )
    costs = {name: cost["divergence"] for name, cost in probes["groups"].items()}
    chosen = choose(groups, costs, target.bits_per_weight)
    return Mixture(probes["algorithm"], target.int4_block_size, groups, chosen)


def choose(groups: Sequence[Group], costs: Mapping[str, float], most: float) -> dict[str, int]:
    """Bits by a group's name, so that all weights together have no more than ``most`` on average.

    Those become narrow that cost least for a byte that they save; what is left of the room behind
    the last of them makes wide again what fits and costs most.

    Args:
        groups: of the model.
        costs: by name, if that group alone is narrow.
        most: bits a weight, scales and zero points counted.

    Raises:
        BadRecipeError: not even with all of them narrow (exit 78).
    """
    left = most / 8 * sum(group.weights for group in groups) - sum(group.wide for group in groups)
    dearest = sorted(groups, key=lambda group: (-_price(group, costs), group.first, group.kind))
    narrow: list[Group] = []
    for group in reversed(dearest):
        if left >= 0:
            break
        narrow.append(group)
        left += group.wide - group.narrow
    if left < 0:
        raise BadRecipeError(
            f"no more than {most:g} bits a weight are asked for, and with all of them in 4 bits"
            f" there are {bits_between(groups)[0]:.3f}",
            "set a larger bits_per_weight",
        )
    for group in sorted(narrow, key=dearest.index):
        if group.wide - group.narrow <= left:
            narrow.remove(group)
            left -= group.wide - group.narrow
    return {group.name: NARROW if group in narrow else WIDE for group in groups}


def _price(group: Group, costs: Mapping[str, float]) -> float:
    return max(0.0, costs[group.name]) / max(1, group.wide - group.narrow)
