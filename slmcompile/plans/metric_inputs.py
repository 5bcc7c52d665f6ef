"""What metrics bring into the spec of a stage that measures them: files, packages, plug-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import Metric
from slmcompile.plans.installed import versions
from slmcompile.plans.plugins import package_hash, project_files

if TYPE_CHECKING:
    from slmcompile.plans.making import Making


@dataclass(frozen=True)
class MetricInputs:
    """Of some metrics; each is a part of a ``Stage``'s attribute of that name.

    Attributes:
        config: paths of project files by their keys of ``eval``, hashes of installed plug-ins, and
            what else is asked for.
        reads: where these lie in the recipe.
        packages: versions by name.
        files: project files.
        names: keys of ``config`` that name such files.
        epochs: of the metrics.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    epochs: Mapping[str, int] = field(default_factory=dict)


def metric_inputs(making: Making, wanted: Sequence[Metric], key: str) -> MetricInputs:
    """What the wanted metrics bring; ``key`` is the recipe's that names them.

    Raises:
        RefusedError: a file outside the project (exit 77).
        SlmcompileError: a plug-in is not as the policy wants it.
    """
    plugins = sorted({metric.plugin for metric in wanted if metric.plugin})
    hashes = {plugin: package_hash(making.project, plugin) for plugin in plugins}
    installed = {plugin: known for plugin, known in hashes.items() if known}
    read = _files(making, wanted)
    return MetricInputs(
        config={**({"plugins": installed} if installed else {}), **read},
        reads={"plugins": key, **{name: f"eval.{name}" for name in read}},
        packages=versions(
            *installed, *(package for metric in wanted for package in metric.packages)
        ),
        files=(
            *read.values(),
            *(path for plugin in plugins for path in project_files(making.project, plugin)),
        ),
        names=tuple(read),
        epochs=METRICS.raised(*(metric.name for metric in wanted)),
    )


def _files(making: Making, wanted: Sequence[Metric]) -> dict[str, str]:
    """Project files that metrics read, by their keys of ``eval``."""
    # Beside the project's files lies the policy, which whoever only runs a stage does without.
    from slmcompile.plans.project_files import inside

    found: dict[str, str] = {}
    for key in dict.fromkeys(metric.file for metric in wanted if metric.file):
        where = f"{making.composed.origin(('eval', key))}: eval.{key}"
        found[key] = inside(making.project, getattr(making.recipe.eval, key), where)
    return found
