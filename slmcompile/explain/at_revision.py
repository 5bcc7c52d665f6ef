"""A recipe as it was at a git revision, compiled without a checkout.

The revision's recipes and groups, and the files that the recipe names, are written into a
temporary folder as git stores them (no filter runs); there the recipe compiles as any other. The
built-in groups and the installed packages stay today's.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from slmcompile.console.errors import RefusedError, SlmcompileError
from slmcompile.explain.named_files import bring, content_hash, named
from slmcompile.files.artifact import saying_what_is_missing
from slmcompile.files.revision import Entry, Revision
from slmcompile.lock.file import FOLDER as LOCKS
from slmcompile.lock.file import MAX_BYTES as MAX_LOCK_BYTES
from slmcompile.lock.file import lock_name
from slmcompile.lock.pin import pin
from slmcompile.plans.builder import build
from slmcompile.plans.data_files import fixed_folder, is_glob
from slmcompile.plans.definition import Plan
from slmcompile.plans.plugins import joined
from slmcompile.recipe.compose import compose
from slmcompile.recipe.limits import MAX_BYTES
from slmcompile.recipe.policy import FILE as POLICY
from slmcompile.recipe.project import Project
from slmcompile.registry.scalars import ID_PATTERN

_MOST_FILES = 10_000
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class PastPlan:
    """A recipe's plan at a revision.

    Attributes:
        revision: where it was read from.
        plan: the plan; None if there was no such recipe yet.
        borrowed: files that the revision does not hold, so that today's bytes stand in for them.
    """

    revision: Revision
    plan: Plan | None
    borrowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class TreeAt:
    """The recipes and groups of a revision, written into a folder of their own.

    Attributes:
        today: the project whose revision it is.
        revision: which.
        project: the folder as a project; what a recipe names is added when it is compiled.
        recipes: names of the recipes there, sorted.
        lends: whether DVC's cache and today's files stand in for what git does not hold.
    """

    today: Project
    revision: Revision
    project: Project
    recipes: tuple[str, ...]
    lends: bool

    def plan(self, name: str, overrides: Sequence[str] = ()) -> PastPlan:
        """Compiles a recipe as it was.

        Raises:
            SlmcompileError: it does not compile there; the message begins with the revision.
        """
        if name not in self.recipes:
            return PastPlan(self.revision, None)
        there = self.project
        with _told_of(self.revision, there):
            composed = pin(there, compose(there, name, overrides))
            borrowed = bring(
                self.today if self.lends else None, self.revision, named(composed), there
            )
            plan = build(there, composed)
        files = {path: content_hash(there.root / path, sha) for path, sha in plan.files.items()}
        kept = tuple(
            path
            for path in borrowed
            if any(used == path or used.startswith(f"{path}/") for used in files)
        )
        return PastPlan(self.revision, replace(plan, files=files), kept)

    def made_of(self, name: str) -> Mapping[str, str]:
        """Blobs by path of what a recipe is made of, also where it does not compile.

        Of one of which nobody knows what it names, its own file and all groups.
        """
        there = self.project
        try:
            composed = compose(there, name, ())
            found = (path for path in composed.files if path.is_relative_to(there.root))
            paths = [path.relative_to(there.root).as_posix() for path in found]
            for path in named(composed):
                paths += [fixed_folder(path) or "." if is_glob(path) else path, f"{path}.dvc"]
        except SlmcompileError:
            paths = [f"recipes/{name}.yaml", "conf", "plugins"]
        return {path: entry.blob for path, entry in self.revision.entries(*paths).items()}


def plan_at(
    project: Project, revision: Revision, name: str, overrides: Sequence[str] = ()
) -> PastPlan:
    """Compiles ``recipes/<name>.yaml`` as it was at ``revision``.

    Raises:
        SlmcompileError: the recipe does not compile there; the message begins with the revision.
    """
    if f"recipes/{name}.yaml" not in revision.entries("recipes"):
        return PastPlan(revision, None)
    with tree_at(project, revision, locks=lock_name(name)) as tree:
        return tree.plan(name, overrides)


@contextmanager
def tree_at(
    project: Project,
    revision: Revision,
    *,
    locks: str = LOCKS,
    policy: Revision | None = None,
    lends: bool = True,
    folder: Path | None = None,
) -> Iterator[TreeAt]:
    """A revision's recipes as a project, for a block; its plug-ins are in the tables meanwhile.

    Args:
        project: whose revision it is.
        revision: which.
        locks: the folder of the locks, or the one that is of use.
        policy: the revision whose policy stands there; its own by default.
        lends: whether DVC's cache and today's files stand in for what git does not hold.
        folder: an empty one that stays behind the block; a temporary one by default.

    Raises:
        SlmcompileError: a plug-in's declaration is wrong, or git holds too much (exit 77).
    """
    entries = revision.entries("recipes", "conf", "plugins", locks)
    if policy is not None:
        own = f"{posixpath.dirname(POLICY)}/"
        entries = {path: entry for path, entry in entries.items() if not path.startswith(own)}
        entries |= policy.entries(POLICY)
    with ExitStack() as block:
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="slmcompile-")
            folder = Path(block.enter_context(made))
        there = Project(folder.resolve())
        with _told_of(revision, there):
            _write_recipes(revision, entries, there)
            block.enter_context(joined(there))
        names = (path.removeprefix("recipes/").removesuffix(".yaml") for path in entries)
        found = (name for name in names if f"recipes/{name}.yaml" in entries)
        recipes = tuple(sorted(name for name in found if re.fullmatch(ID_PATTERN, name)))
        yield TreeAt(project, revision, there, recipes, lends)


@contextmanager
def _told_of(revision: Revision, there: Project) -> Iterator[None]:
    """Has errors of a block begin with the revision."""
    try:
        with saying_what_is_missing(there.root):
            yield
    except SlmcompileError as error:
        raise SlmcompileError(
            f"{revision.shown}: {error.what}", error.mend, code=error.code
        ) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise RefusedError(
            f"{revision.shown}: one path is a file and a folder", "do not trust this revision"
        ) from error


def _write_recipes(revision: Revision, entries: Mapping[str, Entry], there: Project) -> None:
    there.recipes.mkdir()
    wanted = {
        path: entry
        for path, entry in entries.items()
        if path.endswith((".yaml", ".lock")) or path.startswith("plugins/")
    }
    small = {path: entry for path, entry in wanted.items() if entry.size <= _limit(path)}
    if len(wanted) > _MOST_FILES or sum(entry.size for entry in small.values()) > _MOST_BYTES:
        raise RefusedError(
            f"recipes and groups of more than {_MOST_FILES} files or {_MOST_BYTES} bytes",
            "do not trust this revision",
        )
    revision.write({there.root / path: entry for path, entry in small.items()})
    for path in wanted.keys() - small.keys():
        # Too large to be read as a recipe; its size alone lets the reader say so.
        to = there.root / path
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("wb") as stream:
            stream.truncate(_limit(path) + 1)


def _limit(path: str) -> int:
    return MAX_LOCK_BYTES if path.endswith(".lock") else MAX_BYTES
