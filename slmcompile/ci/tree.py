"""The tree of a run: a project of its own, made from git objects.

Recipes, groups, plug-ins, locks of versions and the files that the recipes name are the head's;
policy and DVC's settings the target's; ``pipelines/`` is generated. Nothing else of the head is
there, no ``dvc.lock``, no output and no cache, so DVC has nothing to believe.
"""

from __future__ import annotations

import configparser
import io
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slmcompile.ci.proposal import Proposal
from slmcompile.console.errors import CorruptError, MissingError, RefusedError
from slmcompile.execution.sync import sync
from slmcompile.explain.at_revision import tree_at
from slmcompile.files.artifact import saying_what_is_missing, write_bytes, write_text
from slmcompile.files.revision import Revision, read_blob
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project

_CONFIG = ".dvc/config"
_SETTINGS = (".dvcignore", ".gitignore")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Tree:
    """Where the recipes of a proposal run.

    Attributes:
        project: the folder.
        plans: by recipe, those that are new or changed.
    """

    project: Project
    plans: Mapping[str, Plan]


def wanted(proposal: Proposal) -> tuple[str, ...]:
    """Names of the recipes that are to be run."""
    return tuple(each.recipe for each in proposal.recipes if each.status in {"added", "changed"})


def known(at: Revision, recipes: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that are recipes of a commit."""
    there = at.entries("recipes")
    return tuple(name for name in recipes if f"recipes/{name}.yaml" in there)


@contextmanager
def tree(
    project: Project, head: Revision, target: Revision, recipes: tuple[str, ...], folder: Path
) -> Iterator[Tree]:
    """Makes the tree; the head's plug-ins are in the tables meanwhile.

    Args:
        project: of the repository that holds both commits.
        head: what is run.
        target: whose policy and settings hold.
        recipes: what is generated and brought along.
        folder: one that is not there yet, or empty.

    Raises:
        RefusedError: something lies in the folder (exit 77).
        MissingError: the target is not under DVC, or there is no room (exit 69).
        SlmcompileError: a recipe does not compile.
    """
    with saying_what_is_missing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RefusedError(f"{folder}: is not empty", "give each run a folder of its own")
    with tree_at(project, head, policy=target, lends=False, folder=folder) as there:
        plans = {name: plan for name in recipes if (plan := there.plan(name).plan)}
        _settings(project, target, there.project.root)
        sync(there.project, [*plans.values()])
        yield Tree(there.project, plans)


def _settings(project: Project, target: Revision, root: Path) -> None:
    """Git, and DVC as the target has it."""
    words = ["git", "init", "--quiet", "--template=", "--initial-branch=run"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"git init: {done.stderr.strip()[:200]}", "install git")
    found = target.entries(_CONFIG, *_SETTINGS)
    if _CONFIG not in found:
        raise MissingError(f"{_CONFIG}@{target.shown}: is not there", "run `dvc init` and commit")
    for path, entry in found.items():
        if entry.size > _LARGEST:
            raise CorruptError(f"{path}@{target.shown}: larger than {_LARGEST} bytes", "mend it")
        data = read_blob(target.root, entry.blob)
        if path == _CONFIG:
            write_text(root / path, _absolute(project, data, f"{path}@{target.shown}"))
        else:
            write_bytes(root / path, data)


def _absolute(project: Project, data: bytes, shown: str) -> str:
    """DVC's config with the folders that it names as they are for the project."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(data.decode("utf-8"), shown)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise CorruptError(f"{shown}: not a DVC config", "mend it on the target") from error
    for section in parser.sections():
        url = parser.get(section, "url", fallback="").strip("'\"")
        if url and "://" not in url:
            parser.set(section, "url", str((project.root / ".dvc" / url).resolve()))
    parser.remove_option("cache", "dir")  # a run shares no cache with another
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
