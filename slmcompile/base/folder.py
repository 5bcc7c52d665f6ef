"""A base model that lies in a folder of the project."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

from slmcompile.base.containment import contained, regular_file
from slmcompile.base.layout import ALLOWED, CHAT_TEMPLATES, refuse_unsafe
from slmcompile.console.errors import BadRecipeError
from slmcompile.console.progress import Progress
from slmcompile.sources.of_models.folder import FolderModel

_KEY = "model.source.path"


def fetch_folder(source: FolderModel, project: Path, out: Path, _progress: Progress) -> str:
    """Copies the allowed files of the folder's top level; code and pickles stay behind.

    Raises:
        RefusedError: outside the project, a symlink, a special file, or pickled weights only.
        BadRecipeError: no such folder, or no weights in it.
    """
    folder = contained(project, source.path, _KEY)
    if not folder.is_dir():
        raise BadRecipeError(f"{_KEY}: {source.path} is not a folder", "name the model's folder")
    names = sorted(path.name for path in folder.iterdir())
    refuse_unsafe(names, source.path)
    for name in names:
        if any(fnmatch(name, pattern) for pattern in ALLOWED) and name != "manifest.json":
            shutil.copyfile(regular_file(folder / name, _KEY), out / name)
    if (folder / CHAT_TEMPLATES).is_dir():
        templates = contained(project, f"{source.path}/{CHAT_TEMPLATES}", _KEY)
        (out / CHAT_TEMPLATES).mkdir()
        for path in sorted(templates.glob("*.jinja")):
            shutil.copyfile(regular_file(path, _KEY), out / CHAT_TEMPLATES / path.name)
    return source.path
