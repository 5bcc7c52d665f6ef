"""``slmcompile init``: a new project with one example recipe."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from slmcompile.artifact import saying_what_is_missing, write_text
from slmcompile.errors import MissingError, UsageError
from slmcompile.process import python_module
from slmcompile.recipe.schema_files import write_schemas

_EXAMPLE_DATA = {"tiny": "tiny", "quickstart": "voice-intents"}

_DVC_YAML = """\
# Makes plain `dvc repro` run every recipe. Constant: `slmcompile sync` writes pipelines/.
stages:
  overview:
    cmd: slmcompile overview
    deps:
      - outputs/gates
    always_changed: true
"""
_GITIGNORE = "/outputs/\n/.slmcompile/\n"
_DVC_CONFIG = {
    "core.analytics": "false",
    "core.check_update": "false",
    "cache.type": "hardlink,reflink,symlink,copy",
}


def init(recipe: str, folder: Path | None = None) -> list[str]:
    """Makes ``folder`` (default: the current one) a project; returns the paths that it wrote.

    What is there already is kept: git and DVC are set up only where they are not.

    Raises:
        UsageError: the folder already has this recipe.
        MissingError: git is not installed.
    """
    root = (folder or Path.cwd()).resolve()
    examples = _examples()
    target = root / "recipes" / f"{recipe}.yaml"
    if target.exists():
        raise UsageError(f"recipes/{recipe}.yaml exists", f"run `slmcompile run {recipe}`")
    with saying_what_is_missing(root):
        _version_control(root)
        written = [*_texts(root), *_copies(examples, root, recipe), *write_schemas(root)]
    return sorted(written)


def _examples() -> Path:
    """Recipes and data that travel in the wheel; in a checkout, the checkout's own."""
    packaged = Path(__file__).parent / "examples"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent


def _version_control(root: Path) -> None:
    if shutil.which("git") is None:
        raise MissingError("git is not installed", "install git")
    if not any((parent / ".git").exists() for parent in (root, *root.parents)):
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    if not (root / ".dvc").is_dir():
        top = (root / ".git").exists()
        dvc = python_module("dvc")
        subprocess.run(
            [*dvc, "init", "--quiet", *([] if top else ["--subdir"])], cwd=root, check=True
        )
        for key, value in _DVC_CONFIG.items():
            subprocess.run([*dvc, "config", "--quiet", key, value], cwd=root, check=True)


def _texts(root: Path) -> Iterator[str]:
    if not (root / "dvc.yaml").exists():
        write_text(root / "dvc.yaml", _DVC_YAML)
        yield "dvc.yaml"
    ignored = root / ".gitignore"
    known = ignored.read_text(encoding="utf-8") if ignored.exists() else ""
    missing = "".join(line for line in _GITIGNORE.splitlines(keepends=True) if line not in known)
    if missing:
        write_text(ignored, known + missing)
        yield ".gitignore"


def _copies(examples: Path, root: Path, recipe: str) -> Iterator[str]:
    data = _EXAMPLE_DATA[recipe]
    sources = [examples / "recipes" / f"{recipe}.yaml"]
    sources += [path for path in sorted((examples / "data" / data).iterdir()) if path.is_file()]
    for source in sources:
        path = root / source.relative_to(examples)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
            yield path.relative_to(root).as_posix()
