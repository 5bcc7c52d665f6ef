"""What recipes may use, as the project's owners say it: ``conf/policy/default.yaml``.

The policy is trusted where recipes are not. A recipe cannot name, override or contain it; and for
a pull request it is read from the base branch, as the request could otherwise loosen it. This
module loads it. The checks enforce it.
"""

from __future__ import annotations

import posixpath
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from slmcompile.console.errors import BadRecipeError, UsageError
from slmcompile.files.revision import read_blob, resolve
from slmcompile.files.safe_read import check_inside, linked_file
from slmcompile.recipe.plain_file import validated
from slmcompile.recipe.project import Project, builtin_conf
from slmcompile.recipe.yaml_file import YamlFile, parse_yaml, read_bytes
from slmcompile.registry.scalars import DisplayName, ProjectPath
from slmcompile.registry.section import Section

FILE = "conf/policy/default.yaml"
_MAX_BLOB = 256 * 1024
_MOST_NAMED = 5

Organisation = Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=96)]

PluginName = Annotated[
    str,
    StringConstraints(pattern=r"^(plugins/[a-z][a-z0-9_]{0,39}|[A-Za-z0-9][A-Za-z0-9._-]{0,79})$"),
]


class Policy(Section):
    """What recipes may use; null allows anything."""

    licenses: tuple[DisplayName, ...] | None = Field(
        None, description="SPDX identifiers that a base model's licence must be one of."
    )
    hub_organisations: tuple[Organisation, ...] | None = Field(
        None, description="Owners on the hub that models and data may come from."
    )
    plugins: tuple[PluginName, ...] = Field(
        (),
        max_length=64,
        description="What may extend slmcompile: folders of the project, plugins/NAME, and"
        " installed packages with an entry point slmcompile.plugins.",
    )
    code: tuple[ProjectPath, ...] = Field(
        (),
        max_length=64,
        description="Python files of the project that a recipe may name and a run then executes:"
        " losses/mine.py.",
    )
    data_roots: tuple[ProjectPath, ...] | None = Field(
        None,
        description="Folders that a recipe's files must lie in: relative ones of the project (`.`"
        " for all of it), and absolute ones that a folder of the project may be a link into.",
    )
    max_parameters: int | None = Field(
        None, ge=1, description="Largest base model, in parameters (tied weights once)."
    )
    max_bytes: int | None = Field(
        None, ge=1, description="Largest base model, in bytes of weights."
    )
    allow_unlocked: bool = Field(
        False, description="Whether a hub revision may be a branch or tag without a locked commit."
    )

    @field_validator("data_roots")
    @classmethod
    def _folders(cls, roots: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """As plain paths; all that lies outside of the project is too much to allow."""
        plain = tuple(map(posixpath.normpath, roots or ()))
        for root in plain:
            if root.strip("/") == "" or root.partition("/")[0] in {"..", "~"}:
                raise PydanticCustomError(
                    "no_data_root",
                    "must be folders of the project or absolute ones, not {root}",
                    {"root": root, "mend": "name them: [data], or [., /mnt/corpora]"},
                )
        return None if roots is None else plain

    @property
    def linked_roots(self) -> tuple[str, ...]:
        """Folders outside of the project that a link in it may lead into."""
        return tuple(root for root in self.data_roots or () if root.startswith("/"))


def load_policy(project: Project, ref: str | None = None) -> Policy:
    """The built-in policy under the project's own.

    Args:
        project: the project.
        ref: a git revision to read the project's policy from, without a checkout; the working
            tree by default. A revision without a policy has the built-in one.

    Raises:
        BadRecipeError: the policy is not valid (exit 78).
        RefusedError: it is a link or lies behind one (exit 77).
        UsageError: ``ref`` is not a commit of this repository (exit 64).
    """
    builtin = builtin_conf() / "policy" / "default.yaml"
    own = _at_revision(project, ref) if ref is not None else _in_tree(project)
    files = [_read(builtin)] if builtin.is_file() else []
    if own is not None and own not in files:
        files.append(own)
    return validated(files, Policy)


def own_file(project: Project) -> tuple[str, ...]:
    """The project's own policy as one of the files that a stage reads; none where it has none.

    Raises:
        RefusedError: it is a link or lies behind one (exit 77).
    """
    return (FILE,) if check_inside(project.root, FILE, FILE) else ()


def plugins_not_named(project: Project) -> list[str]:
    """Folders of the project that look like plug-ins and that the policy does not name."""
    named = load_policy(project, project.policy_from).plugins
    found = sorted(path.parent.name for path in project.root.glob("plugins/*/plugin.yaml"))
    return [f"plugins/{name}" for name in found[:_MOST_NAMED] if f"plugins/{name}" not in named]


def within_roots(policy: Policy, project: Project, path: str) -> bool:
    """Whether a project-relative path lies in one of the policy's data roots."""
    if policy.data_roots is None:
        return True
    relative = any(root == "." or f"{path}/".startswith(f"{root}/") for root in policy.data_roots)
    return relative or linked_file(project.root, path, policy.linked_roots) is not None


def _in_tree(project: Project) -> YamlFile | None:
    return _read(project.root / FILE) if own_file(project) else None


def _read(path: Path) -> YamlFile:
    return _parsed_once(path, read_bytes(path, FILE))


@lru_cache(maxsize=8)
def _parsed_once(path: Path, data: bytes) -> YamlFile:
    """Equal bytes are parsed once, for the many recipes of one project; times could lie."""
    return parse_yaml(data, path, FILE)


def _at_revision(project: Project, ref: str) -> YamlFile | None:
    """The project's policy at a git revision, None if that revision has none."""
    shown = f"{FILE}@{ref}"
    try:
        revision = resolve(project.root, ref)
    except UsageError as error:
        raise UsageError(f"--policy-from {ref}: no such commit here", error.mend) from error
    entry = revision.file(FILE)
    if entry is None:
        return None
    if entry.size > _MAX_BLOB:
        raise BadRecipeError(f"{shown}: larger than {_MAX_BLOB} bytes", "shorten it")
    return parse_yaml(read_blob(project.root, entry.blob), project.root / FILE, shown)
