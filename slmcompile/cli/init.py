"""``slmcompile init``: what a project lacks, git, DVC and the files of both; and a first recipe."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slmcompile.cli.hosting import Hosting
from slmcompile.cli.own_recipe import OwnRecipe
from slmcompile.console.errors import MissingError, RefusedError, UsageError
from slmcompile.files.artifact import saying_what_is_missing, write_bytes, write_text
from slmcompile.files.revision import in_git
from slmcompile.files.safe_read import read_regular
from slmcompile.machine.process import python_module
from slmcompile.recipe.project import Project
from slmcompile.recipe.schema_files import write_schemas

_EXAMPLE_DATA = {
    "tiny": ("tiny",),
    "quickstart": ("voice-intents",),
    "assistant": ("voice-intents", "tone", "titles"),
}

_DVC_YAML = """\
# Makes plain `dvc repro` run every recipe. Constant: `slmcompile sync` writes pipelines/.
stages:
  overview:
    cmd: slmcompile overview
    deps:
      - outputs/gates
    always_changed: true
"""
_IGNORED = {
    ".gitignore": ("/outputs/", "/.slmcompile/"),
    ".dvcignore": ("/outputs/gates/*/*",),
    ".dvc/.gitignore": ("/config.local", "/tmp", "/cache"),  # noqa: S108 - a pattern
}
_LONGEST = 1 << 20
"""Bytes of a ``.gitignore`` that is added to."""
_DVC_CONFIG = {
    "core.analytics": "false",
    "core.check_update": "false",
    "cache.type": "hardlink,reflink,symlink,copy",
}


@dataclass(frozen=True)
class Started:
    """What ``init`` did.

    Attributes:
        set_up: what it had git and DVC do, a line each.
        written: project-relative paths of the files that it wrote.
        recipe: the recipe to go on with; empty where there are several.
    """

    set_up: tuple[str, ...]
    written: tuple[str, ...]
    recipe: str


def init(
    recipe: str | None = None,
    folder: Path | None = None,
    own: OwnRecipe | None = None,
    hosted: Hosting | None = None,
) -> Started:
    """Makes ``folder`` (default: the current one) a project, or a whole one of what is there.

    Nothing that is there is changed, but for lines that ``.gitignore`` lacks.

    Args:
        recipe: the example to bring along; by default ``tiny``, unless there are recipes.
        folder: where; it is made if it is not there.
        own: a recipe for data of one's own, in the place of an example.
        hosted: the files for jobs of a host.

    Raises:
        MissingError: git is not installed, or one of git and DVC could not be set up (exit 69).
    """
    root = (folder or Path.cwd()).resolve()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: is no folder", "name another one")
    known = Project(root).names()
    example = recipe or ("" if known or own else "tiny")
    with saying_what_is_missing(root):
        root.mkdir(parents=True, exist_ok=True)
        set_up = tuple(_version_control(root))
        copied = _copies(_examples(), root, example) if example else ()
        written = [*_texts(root), *copied, *write_schemas(root)]
        written += own.write(root) if own else []
        written += hosted.write(root) if hosted else []
    only = known[0] if len(known) == 1 else ""
    return Started(set_up, tuple(sorted(written)), own.name if own else example or only)


def _examples() -> Path:
    """Recipes and data that travel in the wheel; in a checkout, the checkout's own."""
    packaged = Path(__file__).parents[1] / "examples"
    return packaged if packaged.is_dir() else Path(__file__).parents[2]


def _version_control(root: Path) -> Iterator[str]:
    if shutil.which("git") is None:
        raise MissingError("git is not installed", "install git")
    if not in_git(root):
        # As a setting, for a git that is older than it (2.28) passes it over.
        _call(root, "git init", ["git", "-c", "init.defaultBranch=main", "init", "--quiet"])
        yield "git: started a repository"
    if not (root / ".dvc" / "config").exists():
        dvc = python_module("dvc")
        # A folder without a config may hold a cache, which `dvc init --force` would remove.
        if not (root / ".dvc").exists():
            below = [] if (root / ".git").exists() else ["--subdir"]
            _call(root, "dvc init", [*dvc, "init", "--quiet", *below])
        for key, value in _DVC_CONFIG.items():
            _call(root, "dvc config", [*dvc, "config", "--quiet", key, value])
        yield "DVC: started a repository"


def _call(root: Path, name: str, words: list[str]) -> None:
    done = subprocess.run(
        words, cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingError(f"{root}: {name} failed: {said}", "mend that and run again")


def _texts(root: Path) -> Iterator[str]:
    if not (root / "dvc.yaml").exists():
        write_text(root / "dvc.yaml", _DVC_YAML)
        yield "dvc.yaml"
    for path, lines in _IGNORED.items():
        known = read_regular(root, path, path, _LONGEST) or b""
        if len(known) > _LONGEST:
            raise RefusedError(f"{path}: larger than {_LONGEST} bytes", "make it smaller")
        added = _lines_to_add(known, lines)
        if added:
            write_bytes(root / path, known + added)
            yield path


def _lines_to_add(known: bytes, wanted: Iterable[str]) -> bytes:
    """What to append to a text, of lines, for it to have each of ``wanted`` as a line of its own.

    Its bytes, encoding and kind of line ends stay.
    """
    end = b"\r\n" if b"\r\n" in known else b"\n"
    lines = {line.rstrip() for line in known.splitlines()}
    missing = [line.encode() for line in wanted if line.encode() not in lines]
    started = end if known and not known.endswith(b"\n") and missing else b""
    return started + b"".join(line + end for line in missing)


def _copies(examples: Path, root: Path, recipe: str) -> Iterator[str]:
    sources = [examples / "recipes" / f"{recipe}.yaml"]
    for data in _EXAMPLE_DATA[recipe]:
        sources += [path for path in sorted((examples / "data" / data).iterdir()) if path.is_file()]
    for source in sources:
        path = root / source.relative_to(examples)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            yield path.relative_to(root).as_posix()
