"""A project folder: where recipes, groups, generated files and artifacts lie. Paths alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from slmcompile.console.errors import BadRecipeError, UsageError
from slmcompile.registry.scalars import ID_PATTERN


@dataclass(frozen=True)
class Project:
    """A folder that holds ``recipes/``; every path in specs is relative to it.

    Attributes:
        root: the folder.
        policy_from: the git revision whose policy recipes are held against; None takes the
            working tree's.
    """

    root: Path
    policy_from: str | None = None

    @property
    def recipes(self) -> Path:
        """Folder of the recipe files."""
        return self.root / "recipes"

    @property
    def conf(self) -> Path:
        """The project's own Hydra groups; extend and override the built-in ones."""
        return self.root / "conf"

    @property
    def pipelines(self) -> Path:
        """Folder of the generated, committed pipelines."""
        return self.root / "pipelines"

    @property
    def scratch(self) -> Path:
        """Ignored folder for checkpoints, locks, logs and tracker files."""
        return self.root / ".slmcompile"

    def recipe_file(self, name: str) -> Path:
        """The file of a recipe; raises if the name or the file is not there."""
        if not re.fullmatch(ID_PATTERN, name):
            form = "recipe names are lower-case letters, digits, - and _; the file's, without .yaml"
            stem = PurePath(name).stem
            mend = f"did you mean {stem!r}?" if stem in self.names() else form
            raise UsageError(f"{name!r} is not a recipe name", mend)
        path = self.recipes / f"{name}.yaml"
        # A link or a FIFO is there; the reader says why it is refused.
        if not os.path.lexists(path):
            raise BadRecipeError(
                f"recipes/{name}.yaml: no such recipe", nearest("recipes are", name, self.names())
            )
        return path

    def names(self) -> list[str]:
        """Names of all recipes, sorted."""
        found = (path.stem for path in self.recipes.glob("*.yaml"))
        return sorted(name for name in found if re.fullmatch(ID_PATTERN, name))

    def misnamed(self) -> list[str]:
        """Files that look like a recipe and have no recipe's name, sorted.

        Not those that begin with ``_``, which are there for the ``defaults`` of recipes.
        """
        found = {path.name for path in self.recipes.iterdir() if path.suffix in {".yaml", ".yml"}}
        known = {f"{name}.yaml" for name in self.names()}
        return sorted(name for name in found - known if not name.startswith((".", "_")))

    def shown(self, path: Path) -> str:
        """A path as messages show it: relative to the project where it lies in it."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()


def builtin_conf() -> Path:
    """The built-in groups: inside the installed package, or the checkout's own ``conf/``."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def find_project(start: Path | None = None) -> Project:
    """The project that ``start`` (default: the current folder) lies in.

    Raises:
        UsageError: no folder from here upwards holds ``recipes/``.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "recipes").is_dir():
            return Project(folder)
    raise UsageError(
        f"{here}: no recipes/ folder here or above", "run `slmcompile init` to start a project"
    )


def nearest(lead: str, name: str, known: list[str]) -> str:
    """A mend line: the nearest valid name, or all of them if none is near."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{lead} {', '.join(known)}" if known else f"{lead} none yet"
