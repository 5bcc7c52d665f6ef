"""Holds folders and plans against a statement that has been opened.

Whether the statement is to be believed its signature has told; here is only asked whether what
lies somewhere is what it speaks of. Nothing is executed, no link is followed.
"""

from __future__ import annotations

from pathlib import Path

from slmcompile.console.errors import CorruptError, MissingError, StaleError
from slmcompile.files.artifact import MANIFEST
from slmcompile.plans.definition import Plan
from slmcompile.provenance.envelope import Sealed
from slmcompile.provenance.folder import read_listed, require_exactly
from slmcompile.provenance.outputs import is_there
from slmcompile.provenance.statement import StageResult, folder_name
from slmcompile.recipe.project import Project

_OTHER = "take the folder and the statement from one place"


def check_folder(
    sealed: Sealed, stage: str, folder: Path, shown: str = "", *, alone: bool = False
) -> StageResult:
    """Checks that a folder is what a stage has made: every file of it, and nothing more.

    Args:
        sealed: the statement.
        stage: its address, ``R/train``, or what its folder is called, ``train``.
        folder: the folder.
        shown: what messages call it.
        alone: whether no file may have a second name; see ``require_exactly``.

    Raises:
        CorruptError: it is not, or nothing is stated of such a stage (exit 74).
        RefusedError: there is a link or a device in it (exit 77).
    """
    shown = shown or folder.as_posix()
    statement = sealed.statement
    try:
        stated = statement.stage(stage)
    except KeyError:
        stated = None
    if stated is None or not stated.manifest:
        raise CorruptError(f"{shown}: nothing is stated of {stage}'s files", _OTHER)
    listed = read_listed(folder, shown)
    if listed.sha256 != stated.manifest:
        raise CorruptError(f"{shown}: is not the output of {stated.stage} that is stated", _OTHER)
    below = f"{folder_name(statement.recipe, stated.stage)}/"
    told = {
        name.removeprefix(below): sha256
        for name, sha256 in statement.subjects.items()
        if name.startswith(below)
    }
    files = {**told, MANIFEST: stated.manifest} if told else listed.whole
    require_exactly(folder, shown, files, stated.size, alone=alone)
    return stated


def stage_of(sealed: Sealed, folder: Path, shown: str = "") -> StageResult:
    """Of which stage a folder is, by its manifest.

    Raises:
        CorruptError: of none (exit 74).
        RefusedError: its manifest is a link (exit 77).
    """
    shown = shown or folder.as_posix()
    try:
        sha256 = read_listed(folder, shown).sha256
    except CorruptError as error:
        # As ``fetch`` leaves them, side by side.
        names = {folder_name(sealed.statement.recipe, e.stage) for e in sealed.statement.stages}
        there = sorted(name for name in names if (folder / name / MANIFEST).is_file())
        if not there:
            raise
        hint = f"name one of those in it: --folder {shown}/{there[0]}"
        raise CorruptError(error.what, hint) from error
    for each in sealed.statement.stages:
        if each.manifest == sha256:
            return each
    raise CorruptError(f"{shown}: is the output of no stage that is stated", _OTHER)


def check_recipe(sealed: Sealed, recipe: str) -> None:
    """Checks that a statement is a recipe's. Raises CorruptError where it is another's (74)."""
    if sealed.statement.recipe != recipe:
        raise CorruptError(
            f"{recipe}: the statement is of the recipe {sealed.statement.recipe}",
            "take that of this recipe",
        )


def check_plan(sealed: Sealed, plan: Plan) -> None:
    """Checks that a statement is of a recipe as it is planned now.

    Raises:
        CorruptError: it is another recipe's (exit 74).
        StaleError: the recipe, its data or packages are others now (exit 4).
    """
    check_recipe(sealed, plan.recipe)
    statement = sealed.statement
    stated = {each.stage: (each.kind, each.fingerprint) for each in statement.stages}
    found = plan.fingerprints()
    planned = {each.address: (each.kind, found[each.address]) for each in plan.stages()}
    if stated != planned:
        other = [name for name in planned if stated.get(name) != planned[name]]
        first = next(iter([*other, *(stated.keys() - planned.keys())]))
        raise StaleError(
            f"{plan.recipe}: what is stated of {first} is not what is planned now",
            f"run `slmcompile run {plan.recipe}` and attest again, or take the recipe back",
        )


def check_outputs(
    sealed: Sealed, project: Project, plan: Plan, *, alone: bool = False
) -> tuple[str, ...]:
    """Checks all outputs of a recipe in a project; returns their folders.

    Raises:
        CorruptError, StaleError: as ``check_plan``; an output is not as stated (exit 74).
        MissingError: an output is not there (exit 69).
        RefusedError: an output holds a link or a device, or lies behind a link (exit 77).
    """
    check_plan(sealed, plan)
    checked = []
    for stage in plan.stages():
        stated = sealed.statement.stage(stage.address)
        if not stated.manifest:
            continue  # of what only passes nothing is kept
        if not is_there(project, stage.out):
            raise MissingError(
                f"{stage.out}: is not there", f"run `dvc pull`, or `slmcompile run {plan.recipe}`"
            )
        check_folder(sealed, stage.address, project.root / stage.out, stage.out, alone=alone)
        checked.append(stage.out)
    return tuple(checked)
