"""``slmcompile exec``: runs one stage from its spec file, all or nothing.

Verifies the inputs' manifests, runs the stage's program into a scratch folder and renames the
folder into place. Knows nothing of recipes or DVC.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slmcompile.console.errors import (
    CorruptError,
    MissingError,
    SlmcompileError,
    StaleError,
)
from slmcompile.console.progress import Console
from slmcompile.files import artifact
from slmcompile.machine.process import die_with_parent, prepare_to_compute
from slmcompile.machine.surroundings import leave_out_what_changes_results
from slmcompile.plans import definition
from slmcompile.plans.definition import OF_MEMBER, SPEC_SCHEMA
from slmcompile.plans.kinds import KINDS
from slmcompile.plans.plugins import importable
from slmcompile.recipe.project import Project
from slmcompile.stages.context import Context
from slmcompile.stages.isolated import is_isolated, isolated_result_of
from slmcompile.stages.programs import result_of
from slmcompile.state import finished, journal
from slmcompile.state.emit import runtime_path
from slmcompile.state.failure import clear_failure, write_failure
from slmcompile.state.finished import Finished
from slmcompile.state.locks import work_lock
from slmcompile.state.scratch import alone, scratch_folder, work_fingerprint
from slmcompile.state.specs import SPEC_STORE
from slmcompile.state.state import md5_file

# Only these stages may use the network; every other one runs with the hubs' own off switch on.

_WORK = ("tokens", "total_parameters", "trainable_parameters", "answers")
"""Metrics that say how much a stage had to do; estimates of later runs scale by them."""


def execute(project: Project, spec_path: str) -> None:
    """Runs the stage of one spec file.

    Raises:
        SlmcompileError: whatever went wrong, with the right exit code; also left for ``run``.
    """
    spec = read_spec(project.root / spec_path)
    address = str(spec["stage"])
    clear_failure(project, address)
    die_with_parent()
    began = time.monotonic()
    try:
        work = _execute(project, spec)
    except SlmcompileError as error:
        write_failure(project, address, error)
        raise
    except Exception as error:
        where = getattr(error, "filename", None) or spec["out"]
        failed = artifact.as_missing(error, Path(str(where))) or error
        write_failure(project, address, failed)
        if failed is error:
            raise
        raise failed from error
    _keep_spec(project, project.root / spec_path)
    seconds = round(time.monotonic() - began, 2)
    if work is not None:
        entry = {"stage": address, "kind": spec["kind"], "seconds": seconds, **journal.usage()}
        # Of another base model a later plan knows that it tells nothing of this one's time.
        base = {role: path for role, path in spec["inputs"].items() if role == "base"}
        journal.append(project, {**entry, **base, **work})


def read_spec(path: Path) -> dict[str, Any]:
    """A spec file. Raises StaleError for a schema or an epoch that this version does not write."""
    try:
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind, schema, epoch = spec["kind"], spec["schema"], spec["epoch"]
    except FileNotFoundError as error:
        raise StaleError(f"{path}: no such spec file", "run `slmcompile sync --all`") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{path}: not a spec file", "run `slmcompile sync --all`") from error
    known = KINDS.get(str(kind))
    if schema != SPEC_SCHEMA or known is None or known.epoch != epoch:
        raise StaleError(
            f"{path}: written by another version of slmcompile", "run `slmcompile sync --all`"
        )
    return spec


def _execute(project: Project, spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Runs it; returns how much work it was, for the journal; None where it was done before."""
    _check_packages(spec)
    kind = str(spec["kind"])
    ignored = leave_out_what_changes_results()
    prepare_to_compute()
    importable(project)
    if not KINDS[kind].fetches:
        os.environ["HF_HUB_OFFLINE"] = "1"
    is_isolated(spec)  # before anything is waited for
    progress = Console(str(spec["stage"]))
    if ignored:
        progress.say(
            f"{', '.join(ignored)} of the shell do not count: results would depend on them"
        )
    inputs = {role: project.root / path for role, path in spec["inputs"].items()}
    manifests = {role: artifact.verify(path) for role, path in inputs.items() if path.is_dir()}
    for role, path in inputs.items():
        if not path.exists():
            raise MissingError(f"{path}: input {role} is missing", "run the recipe as a whole")
    files = {path: artifact.sha256_file(project.root / path) for path in spec.get("files", ())}
    read = {
        role: alone(path.name, path.read_bytes()) for role, path in inputs.items() if path.is_file()
    }
    fingerprint = work_fingerprint(spec, {**manifests, **read}, files)
    with work_lock(project, fingerprint, progress.say):
        with finished.found(project, kind, fingerprint, progress.say) as done:
            if done is not None:
                _take(project, spec, done)
        # After the search, as what is about to be forgotten may be what is wanted.
        finished.release(project)
        scratch = scratch_folder(project, fingerprint)
        if done is not None:
            where = project.shown(done.folder)
            progress.say(f"the same work was finished before: taken from {where}")
            shutil.rmtree(scratch, ignore_errors=True)
            return None
        context = Context(
            project=project.root,
            stage=str(spec["stage"]),
            config=spec["config"],
            inputs=inputs,
            manifests=manifests,
            out=Path(),
            scratch=scratch,
            fingerprint=fingerprint,
            runtime=_runtime(project, spec),
            progress=progress,
            spec=spec,
        )
        measured = _work(project, spec, context)
        # Checkpoints are of no use once the artifact stands.
        shutil.rmtree(scratch, ignore_errors=True)
    return {name: measured[name] for name in _WORK if name in measured}


def _work(project: Project, spec: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Runs the stage's program and puts what it makes into place; returns its metrics."""
    info: dict[str, Any] = {}
    texts = finished.Texts()

    def keep(whole: Path) -> None:
        finished.keep(project, spec, context.fingerprint, whole, texts)

    kind = str(spec["kind"])
    named = None if KINDS[kind].constant else context.fingerprint
    with artifact.replacing(project.root / spec["out"], kind, info, named, keep) as out:
        run = isolated_result_of if is_isolated(spec) else result_of
        result = run(KINDS[kind], replace(context, out=out))
        info.update(result.info)
        texts = finished.Texts(
            _texts_of(definition.all_of(spec["metrics"]), result.metrics or {}),
            _texts_of(definition.all_of(spec["plots"]), result.plots or {}, OF_MEMBER),
        )
        _write_texts(project, spec, texts)
    return result.metrics or {}


def _take(project: Project, spec: Mapping[str, Any], done: Finished) -> None:
    """Puts finished work where this stage's belongs, whole or not at all."""
    _write_texts(project, spec, done.texts)
    with artifact.appearing(project.root / spec["out"]) as out:
        finished.link(done.folder, out)


def _write_texts(project: Project, spec: Mapping[str, Any], texts: finished.Texts) -> None:
    for path, text in zip(definition.all_of(spec["metrics"]), texts.metrics, strict=True):
        artifact.write_text(project.root / path, text)
    for path, text in zip(definition.all_of(spec["plots"]), texts.plots, strict=True):
        artifact.write_text(project.root / path, text)


def _texts_of(
    paths: tuple[str, ...], values: Mapping[str, Any], behind: str = ""
) -> tuple[str, ...]:
    """A text for each of a stage's metrics or plots files: what is of its name, or all there is.

    Args:
        paths: of the files.
        values: what there is to say, by name where it is of several.
        behind: of a file's name what stands behind it counts.
    """
    stems = [Path(path).stem for path in paths]
    names = [stem.partition(behind)[2] if behind else stem for stem in stems]
    return tuple(artifact.json_text(values.get(name, values)) for name in names)


def _check_packages(spec: Mapping[str, Any]) -> None:
    for name, wanted in spec["packages"].items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError as error:
            raise MissingError(
                f"{spec['stage']}: the package {name} is not installed",
                "install slmcompile with its lock file",
            ) from error
        if found != wanted:
            raise StaleError(
                f"{spec['stage']}: planned for {name} {wanted}, found {found}",
                "install from the lock file, or run `slmcompile sync --all` to plan anew",
            )


def _runtime(project: Project, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's cosmetic settings; not a dependency, so their absence must do no harm."""
    path = project.root / runtime_path(str(spec["stage"]).split("/")[0])
    try:
        runtime: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return runtime


def _keep_spec(project: Project, path: Path) -> None:
    """Remembers the spec that ran, so that a later plan can name the key that changed."""
    md5 = md5_file(path)
    if md5:
        artifact.write_text(
            project.scratch / SPEC_STORE / f"{md5}.json", path.read_text(encoding="utf-8")
        )
