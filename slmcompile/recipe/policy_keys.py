"""Recipes cannot name, override or contain the policy that they are held against."""

from __future__ import annotations

import re

from slmcompile.console.errors import RefusedError

_POLICY = re.compile(r"(^((override|optional)\s+)*|@)/?policy([/.@:]|$)")


def refuse_policy(text: object, where: str) -> None:
    """Refuses a key, a group, a package or an override's name that means the policy (exit 77)."""
    if isinstance(text, str) and _POLICY.search(text.strip()):
        raise RefusedError(
            f"{where}: policy: a recipe has no say in the policy it is held against",
            "remove it; the project's owners write conf/policy/default.yaml",
        )
