"""The schema files of a project, and the line by which an editor finds them."""

from __future__ import annotations

from pathlib import Path

from slmcompile.console.errors import UsageError
from slmcompile.files.artifact import write_text
from slmcompile.recipe.json_schema import schema_files
from slmcompile.recipe.project import find_project, nearest

FOLDER = "schema"


def editor_line(folder: str) -> str:
    """First line of a YAML file in ``folder`` (``recipes`` or ``conf/<group>``).

    Understood by https://github.com/redhat-developer/yaml-language-server.
    """
    up = "../" * len(folder.split("/"))
    name = "recipe" if folder == "recipes" else folder.rpartition("/")[2]
    return f"# yaml-language-server: $schema={up}{FOLDER}/{name}.json\n"


def write_schemas(root: Path) -> list[str]:
    """Writes the files that differ; returns their paths relative to ``root``."""
    written: list[str] = []
    for name, text in schema_files().items():
        path = root / FOLDER / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            written.append(f"{FOLDER}/{name}")
    return written


def answer(group: str | None, *, docs: bool, write: bool) -> str:
    """What ``slmcompile schema`` prints: one schema, the reference of keys, or what it wrote.

    Raises:
        UsageError: there is no such group.
    """
    if docs:
        from slmcompile.recipe.key_docs import key_docs

        return key_docs()
    if write:
        return "".join(f"wrote {path}\n" for path in write_schemas(find_project().root))
    files = schema_files()
    name = f"{group or 'recipe'}.json"
    if name not in files or group == "recipe":
        known = [path.removesuffix(".json") for path in files if path != "recipe.json"]
        raise UsageError(f"schema: no group {group!r}", nearest("groups are", group or "", known))
    return files[name]
