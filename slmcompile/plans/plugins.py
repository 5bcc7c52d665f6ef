"""Plug-ins: folders with ``plugin.yaml``, which declares entries of tables, and their programs.

A plug-in is a folder of the project, ``plugins/NAME``, or an installed package that has an entry
point in the group ``slmcompile.plugins``, whose value is the package that holds the file. Only what
the policy names is looked for. Nothing here imports it: ``exec`` alone does, through
``importable``; what a plan holds of it is the hash of its files.
"""

from __future__ import annotations

import importlib.util
import posixpath
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from slmcompile.console.errors import BadRecipeError, MissingError, RefusedError, StaleError
from slmcompile.files.file_hash import file_hash
from slmcompile.files.safe_read import check_inside, read_regular
from slmcompile.metrics import METRICS
from slmcompile.metrics.metric import RESERVED, Metric, Needs
from slmcompile.plans.canonical import digest
from slmcompile.plans.project_files import files_below
from slmcompile.recipe.plain_file import validated
from slmcompile.recipe.policy import FILE, load_policy
from slmcompile.recipe.project import Project
from slmcompile.recipe.yaml_file import parse_yaml
from slmcompile.registry.section import Section

DECLARATION = "plugin.yaml"
GROUP = "slmcompile.plugins"
_MODULES = "slmcompile_plugins"
"""Package of which the project's plug-ins are parts, where they are imported."""
_MOST_BYTES = 64 << 10
_MOST_FILES = 200
_PACKAGE = re.compile(r"[A-Za-z_]\w{0,79}")
_AFTER_ALL = 1000
"""Place of a metric that a plug-in brings: behind those that are built in."""

_Line = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[\w %@./()-]+$")]


class MetricKeys(Section):
    """``[metrics.NAME]`` of a declaration."""

    title: _Line = Field(description="Its column's heading.")
    words: _Line = Field(description="As it stands in a sentence.")
    needs: Needs = Field(description="What of an answer it is computed from.")
    program: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = Field(
        description="`module:name` in the plug-in's folder, a `Measure`."
    )
    higher_is_better: bool = Field(True, description="Which way is better.")
    low: float = Field(0.0, description="Smallest value.")
    high: float | None = Field(1.0, description="Largest value; null where there is none.")
    of_task: bool = Field(False, description="Whether it tells that answers are right.")
    digits: int = Field(3, ge=0, le=9, description="Decimals in a table.")
    packages: tuple[Annotated[str, StringConstraints(max_length=80)], ...] = Field(
        (), max_length=16, description="Installed packages that its value depends on."
    )


class Declaration(Section):
    """``plugin.yaml``."""

    format_version: Literal["1.0"] = Field(description="Of this file's form.")
    metrics: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")], MetricKeys
    ] = Field(default_factory=dict, max_length=64, description="Metrics by name.")


def declared(project: Project) -> tuple[Metric, ...]:
    """The metrics of all plug-ins that the policy names, read as data.

    Raises:
        BadRecipeError: a declaration is not valid, or a name is taken (exit 78).
        MissingError: a plug-in is not there (exit 69).
        RefusedError: it is a link, or too large (exit 77).
    """
    found: list[Metric] = []
    for plugin in load_policy(project, project.policy_from).plugins:
        root, folder, modules = _place(project, plugin)
        shown = posixpath.join(folder, DECLARATION) if folder else f"{plugin}: {DECLARATION}"
        for name, keys in _declaration(root, folder, shown).metrics.items():
            if name in RESERVED or name.endswith("_ci"):
                raise BadRecipeError(
                    f"{shown}: metrics.{name}: results have a key of this name",
                    "give it another name",
                )
            high = inf if keys.high is None else keys.high
            if not keys.low < high:
                raise BadRecipeError(
                    f"{shown}: metrics.{name}: low {keys.low:g} is not below high {high:g}",
                    "leave both out for a share, in [0, 1]",
                )
            values = {**keys.model_dump(), "name": name, "high": high, "plugin": plugin}
            values |= {"program": f"{modules}.{keys.program}", "place": _AFTER_ALL}
            found.append(Metric(**values))
    return tuple(sorted(found, key=lambda metric: metric.name))


@contextmanager
def joined(project: Project) -> Iterator[None]:
    """The project's plug-ins in the tables, in place of another's, for a block.

    Raises:
        SlmcompileError: as ``declared``.
    """
    entries = declared(project)
    if entries == tuple(metric for metric in METRICS.values() if metric.plugin):
        yield
        return
    with ExitStack() as block:
        try:
            others = METRICS.joined_by(*entries, without=lambda metric: bool(metric.plugin))
            block.enter_context(others)
        except ValueError as error:
            mend = f"rename it in its {DECLARATION}, or leave one of them out"
            raise BadRecipeError(f"{FILE}: plugins: {error}", mend) from error
        yield


def project_files(project: Project, plugin: str) -> tuple[str, ...]:
    """Files of a plug-in that lies in the project, as its stages read them; none of a package's.

    Raises:
        RefusedError: one of them is a link, or they are too many (exit 77).
    """
    if not _of_project(plugin):
        return ()
    found = tuple(
        path for path in files_below(project, plugin, plugin) if "/__pycache__/" not in path
    )
    if len(found) > _MOST_FILES:
        raise RefusedError(f"{plugin}: more than {_MOST_FILES} files", "make it smaller")
    return found


def package_hash(project: Project, plugin: str) -> str | None:
    """SHA-256 over the files of an installed plug-in; None of one that lies in the project."""
    if _of_project(plugin):
        return None
    root, _, _ = _place(project, plugin)
    paths = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    if len(paths) > _MOST_FILES:
        raise RefusedError(f"{plugin}: more than {_MOST_FILES} files", "take it out of the policy")
    return digest({path.relative_to(root).as_posix(): file_hash(path, "sha256") for path in paths})


def require_planned(project: Project, planned: Mapping[str, str]) -> None:
    """That installed plug-ins are those of the plan; the files of others are the stage's own.

    Args:
        project: the project.
        planned: ``package_hash`` of each, as the plan knew it.

    Raises:
        StaleError: one is another by now (exit 4).
    """
    for plugin, known in planned.items():
        if package_hash(project, plugin) != known:
            raise StaleError(
                f"{plugin}: not the files that were planned with", "run `slmcompile sync --all`"
            )


def importable(project: Project) -> None:
    """Lets this process import the project's plug-ins; ``exec`` alone calls it."""
    package = ModuleType(_MODULES)
    package.__path__ = [str(project.root / "plugins")]
    sys.modules[_MODULES] = package
    # What Python leaves beside the files would be one more of them.
    sys.dont_write_bytecode = True


def _of_project(plugin: str) -> bool:
    return plugin.startswith("plugins/")


def _place(project: Project, plugin: str) -> tuple[Path, str, str]:
    """Where a plug-in lies: a root, the folder below it, and its modules' package."""
    if _of_project(plugin):
        check_inside(project.root, plugin, plugin)
        return project.root, plugin, f"{_MODULES}.{plugin.removeprefix('plugins/')}"
    mend = f"install it, or take it out of {FILE}"
    try:
        points = distribution(plugin).entry_points.select(group=GROUP)
    except PackageNotFoundError as error:
        raise MissingError(f"{FILE}: plugins: {plugin} is not installed", mend) from error
    packages = {point.value for point in points}
    package = packages.pop() if len(packages) == 1 else ""
    # A name with a dot would import what it lies in.
    spec = importlib.util.find_spec(package) if _PACKAGE.fullmatch(package) else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"{FILE}: plugins: {plugin} has no entry point {GROUP} that names its package", mend
        )
    return Path(spec.submodule_search_locations[0]), "", package


def _declaration(root: Path, folder: str, shown: str) -> Declaration:
    path = posixpath.join(folder, DECLARATION)
    data = read_regular(root, path, shown, _MOST_BYTES)
    if data is None:
        raise MissingError(f"{shown}: no such file", f"write it, or take it out of {FILE}")
    if len(data) > _MOST_BYTES:
        raise RefusedError(f"{shown}: larger than {_MOST_BYTES} bytes", "make it smaller")
    return validated([parse_yaml(data, root / path, shown)], Declaration)
