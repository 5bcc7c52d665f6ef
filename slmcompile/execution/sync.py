"""Brings ``pipelines/`` in line with the recipes: writes what differs, removes orphans."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from slmcompile.console.errors import BadRecipeError, RefusedError, SlmcompileError, StaleError
from slmcompile.files.artifact import saying_what_is_missing, write_text
from slmcompile.files.file_hash import file_hash
from slmcompile.files.memo import Remembered
from slmcompile.files.safe_read import check_inside, read_regular
from slmcompile.lock.pin import pin
from slmcompile.metrics import METRICS
from slmcompile.plans.builder import build, same_packages
from slmcompile.plans.data_files import globs_of
from slmcompile.plans.definition import Plan, shared_stage
from slmcompile.recipe.compose import compose
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.policy import own_file
from slmcompile.recipe.project import Project
from slmcompile.recipe.repository import Answers
from slmcompile.sources import MODEL_SOURCES
from slmcompile.sources.keys import HubKeys
from slmcompile.state.emit import generated_files, overrides_path, runtime_path
from slmcompile.state.locks import other_runs, project_lock
from slmcompile.state.specs import read_spec

_plans: Remembered[tuple[Answers, Plan]] = Remembered(most_bytes=96 << 20)


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
    key = (str(project.root), name, tuple(overrides), own_file(project))
    known = _plans.get(key)
    if known is not None and _still_hold(project, *known):
        return known[1]
    composed = compose(project, name, overrides)
    plan = build(project, pin(project, composed))
    # A folder, a glob or a plug-in may get more files, and a hub's revision is the lock's to say.
    model = composed.whole.model.source
    rows = [part.source for view in composed.members.values() for part in view.recipe.data.parts]
    open_ended = (
        composed.earlier is not None
        or composed.taken
        or any(isinstance(source, HubKeys) for source in (model, *rows))
        or MODEL_SOURCES[model.type].folder
        or any(map(globs_of, rows))
        or any(metric.plugin for metric in METRICS.values())
    )
    if not open_ended:
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


def sync(
    project: Project, plans: Sequence[Plan], *, check: bool = False, running: str | None = None
) -> Synced:
    """Writes the generated files of ``plans`` that differ and removes what nothing uses.

    With ``check`` nothing is touched and the answer says what would be. Folders stay while another
    recipe than ``running``, the caller's own, runs: DVC looks through all of them, and a run may
    use one that no committed spec names.

    Raises:
        RefusedError: below ``pipelines/`` lies a link, or a file where a folder belongs; found
            before anything is written (exit 77).
    """
    wanted: dict[str, str] = {}
    for plan in plans:
        wanted |= generated_files(plan)
    if check:
        return Synced(_differing(project, wanted), _orphans(project, plans, wanted))
    with project_lock(project):
        written = _differing(project, wanted)
        for path in written:
            write_text(project.root / path, wanted[path])
        removed = _orphans(project, plans, wanted)
        if other_runs(project, running):
            removed = tuple(path for path in removed if path.count("/") > 1)
        for path in removed:
            _remove(project.root / path)
    return Synced(written, removed)


def remove_orphans(project: Project, plan: Plan) -> None:
    """What ``sync`` had to leave because another recipe was running, when a run ends."""
    with project_lock(project):
        if not other_runs(project, plan.recipe):
            for path in _orphans(project, [plan], generated_files(plan)):
                if path.count("/") == 1:
                    _remove(project.root / path)


def write_specs(project: Project, name: str) -> None:
    """The ``plan`` stage: recompiles a recipe inside ``dvc repro`` and writes its spec files.

    Raises:
        StaleError: the list of stages has changed, which only ``slmcompile sync`` may write.
        RefusedError: as ``sync``.
    """
    plan = compile_recipe(project, name)
    own = {stage.spec_path for stage in plan.own.stages} | {runtime_path(name)}
    files = generated_files(plan)
    differing = _differing(project, files)
    for path in differing:
        if path not in own and path != overrides_path(name):
            raise StaleError(
                f"{path}: the recipe {name} now has other stages", f"run `slmcompile sync {name}`"
            )
    for path in differing:
        if path in own:
            write_text(project.root / path, files[path])


def _differing(project: Project, files: Mapping[str, str]) -> tuple[str, ...]:
    """Those of the generated files that are not there with these bytes, sorted."""
    for folder in sorted({"pipelines"} | {path.rpartition("/")[0] for path in files}):
        found = check_inside(project.root, folder, folder)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise RefusedError(f"{folder}: is a file where a folder belongs", "move it away")
    return tuple(path for path, text in sorted(files.items()) if _differs(project, path, text))


def _differs(project: Project, path: str, text: str) -> bool:
    wanted = text.encode()
    try:
        found = read_regular(project.root, path, path, len(wanted))
    except OSError:
        return True
    if found is None and check_inside(project.root, path, path) is not None:
        raise RefusedError(f"{path}: is a folder where a file belongs", "move it away")
    return found != wanted


def _orphans(project: Project, plans: Sequence[Plan], wanted: dict[str, str]) -> tuple[str, ...]:
    """Generated files and folders that no recipe needs any more."""
    names = set(project.names())
    planned = {plan.recipe for plan in plans}
    used = {pipeline.name for plan in plans for pipeline in plan.pipelines}
    specs = {name: spec_paths(project, name) for name in _entries(project, "pipelines")}
    found = [
        path for name in specs if name in planned for path in specs[name] if path not in wanted
    ]
    used |= _shared_by(project, names - planned, specs)
    for name in specs.keys() - names - used:
        generated = f"pipelines/{name}/dvc.yaml"
        if check_inside(project.root, generated, generated) is not None:
            found.append(f"pipelines/{name}")
    return tuple(sorted(found))


def _shared_by(
    project: Project, recipes: Iterable[str], specs: Mapping[str, Sequence[str]]
) -> set[str]:
    """Shared pipelines that the committed specs of recipes (or of their data stages) name."""
    used: set[str] = set()
    left = list(recipes)
    while left:
        for path in specs.get(left.pop(), ()):
            spec = read_spec(project, path) or {}
            for out in spec.get("inputs", {}).values():
                name = out.removeprefix("outputs/") if isinstance(out, str) else ""
                if shared_stage(name) and name not in used:
                    used.add(name)
                    left.append(name)
    return used


def spec_paths(project: Project, pipeline: str) -> list[str]:
    """Paths of a pipeline's spec files that are there, and of what lies beside them."""
    folder = f"pipelines/{pipeline}/plan"
    return [f"{folder}/{name}" for name in _entries(project, folder) if name.endswith(".json")]


def _entries(project: Project, folder: str) -> list[str]:
    """Names in a folder of the project, sorted; none where there is no folder."""
    found = check_inside(project.root, folder, folder)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return []
    return sorted(path.name for path in (project.root / folder).iterdir())


def _remove(path: Path) -> None:
    with saying_what_is_missing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
