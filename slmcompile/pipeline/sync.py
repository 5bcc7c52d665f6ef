"""Brings ``pipelines/`` in line with the recipes: writes what differs, removes orphans."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from slmcompile.artifact import saying_what_is_missing, write_text
from slmcompile.errors import BadRecipeError, SlmcompileError, StaleError
from slmcompile.file_hash import file_hash
from slmcompile.lock.pin import pin
from slmcompile.pipeline.emit import generated_files, overrides_path, runtime_path
from slmcompile.planning.builder import build, same_packages
from slmcompile.planning.definition import Plan
from slmcompile.project import Project
from slmcompile.recipe.compose import compose
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.repository import Answers
from slmcompile.recipe.schema import FolderModel, HubData, HubModel
from slmcompile.regular_file import check_inside, read_regular
from slmcompile.remembered import Remembered

_plans: Remembered[tuple[Answers, Plan]] = Remembered(kept=4096)
_SHARED = re.compile(r"^(base|data)-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Synced:
    """What ``sync`` did, or with ``check`` would have done; project-relative paths."""

    written: tuple[str, ...]
    removed: tuple[str, ...]


def compile_recipe(project: Project, name: str, overrides: Sequence[str] | None = None) -> Plan:
    """Composes and builds one recipe; ``None`` takes the overrides of the last run.

    A plan of this process is used again if every file that it was made from has the same bytes,
    and every package that it names the same version.
    """
    if overrides is None:
        overrides = read_overrides(project, name)
    key = (str(project.root), name, tuple(overrides))
    known = _plans.get(key)
    if known is not None and _still_hold(project, *known):
        return known[1]
    composed = compose(project, name, overrides)
    plan = build(project, pin(project, composed))
    # A folder may get more files, and a hub's revision is the lock's to say.
    model, data = composed.recipe.model.source, composed.recipe.data.source
    if not isinstance(model, FolderModel | HubModel) and not isinstance(data, HubData):
        _plans.put(key, (composed.answers, plan))
    return plan


def _still_hold(project: Project, answers: Answers, plan: Plan) -> bool:
    try:
        return (
            same_packages(plan)
            and answers.still_hold(project)
            and all(
                check_inside(project.root, path, path)
                and file_hash(project.root / path, "sha256") == known
                for path, known in plan.files.items()
            )
        )
    except (SlmcompileError, OSError):
        return False  # compiling anew says what is wrong


def read_overrides(project: Project, name: str) -> tuple[str, ...]:
    """The overrides that the last ``slmcompile run`` left, empty if there are none."""
    path = overrides_path(name)
    data = read_regular(project.root, path, path, MAX_BYTES)
    if data is None:
        return ()
    try:
        content = yaml.safe_load(data.decode()) or []
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        content = None
    if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        raise BadRecipeError(
            f"{path}: not a list of overrides", f"run `slmcompile run {name}` anew"
        )
    return tuple(content)


def sync(project: Project, plans: Sequence[Plan], *, check: bool = False) -> Synced:
    """Writes the generated files of ``plans`` that differ and removes what nothing uses.

    With ``check`` nothing is touched and the answer says what would be.
    """
    wanted: dict[str, str] = {}
    for plan in plans:
        wanted |= generated_files(plan)
    written = tuple(
        path for path, text in sorted(wanted.items()) if _differs(project.root / path, text)
    )
    if not check:
        for path in written:
            write_text(project.root / path, wanted[path])
    removed = _orphans(project, plans, wanted)
    if not check:
        for path in removed:
            _remove(project.root / path)
    return Synced(written, removed)


def write_specs(project: Project, name: str) -> None:
    """The ``plan`` stage: recompiles a recipe inside ``dvc repro`` and writes its spec files.

    Raises:
        StaleError: the list of stages has changed, which only ``slmcompile sync`` may write.
    """
    plan = compile_recipe(project, name)
    own = {stage.spec_path for stage in plan.own.stages} | {runtime_path(name)}
    files = generated_files(plan)
    for path, text in files.items():
        if path not in own and path != overrides_path(name) and _differs(project.root / path, text):
            raise StaleError(
                f"{path}: the recipe {name} now has other stages", f"run `slmcompile sync {name}`"
            )
    for path in sorted(own):
        if _differs(project.root / path, files[path]):
            write_text(project.root / path, files[path])


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") != text
    except (OSError, UnicodeDecodeError):
        return True


def _orphans(project: Project, plans: Sequence[Plan], wanted: dict[str, str]) -> tuple[str, ...]:
    """Generated files and folders that no recipe needs any more."""
    names = set(project.names())
    planned = {plan.recipe for plan in plans}
    used = {pipeline.name for plan in plans for pipeline in plan.pipelines}
    found: list[str] = []
    for folder in sorted(project.pipelines.glob("*/")):
        if folder.name in names:
            if folder.name not in planned:
                used |= _shared_pipelines_of(folder, project)
            for spec in sorted((folder / "plan").glob("*.json")):
                path = spec.relative_to(project.root).as_posix()
                if folder.name in planned and path not in wanted:
                    found.append(path)
    for folder in sorted(project.pipelines.glob("*/")):
        generated = (folder / "dvc.yaml").is_file()
        if generated and folder.name not in names | used:
            found.append(folder.relative_to(project.root).as_posix())
    return tuple(found)


def _shared_pipelines_of(folder: Path, project: Project) -> set[str]:
    """Shared pipelines that the committed specs of a recipe (or of its data stage) name."""
    used: set[str] = set()
    for spec in (folder / "plan").glob("*.json"):
        try:
            inputs = json.loads(spec.read_text(encoding="utf-8")).get("inputs", {})
        except (OSError, ValueError):
            continue
        for path in inputs.values():
            name = str(path).removeprefix("outputs/")
            if _SHARED.fullmatch(name) and name not in used:
                used |= {name} | _shared_pipelines_of(project.pipelines / name, project)
    return used


def _remove(path: Path) -> None:
    with saying_what_is_missing(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
