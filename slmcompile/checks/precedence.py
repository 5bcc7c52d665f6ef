"""Who said so: whether a person stated a key, and over whose word.

A shipped group's default that a recipe goes past is no mistake; a key that the same person wrote
beside the one that voids it is. Read from the origins that composing kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from slmcompile.facts.context import CheckContext

_UNSTATED, _FILE, _RECIPE, _OVERRIDE = range(4)
_BY_OVERRIDE = "override "


def contradicts(context: CheckContext, option: str, *by: str) -> bool:
    """Whether ``option`` is stated at least as close to the person as all of ``by``.

    An override stands over the recipe, the recipe over the groups and recipes that it names. So
    does an override that chooses a group's option (``train=quick``), where it goes against the
    recipe. Two keys of groups contradict each other only within one file.

    Args:
        context: the recipe and where its keys came from.
        option: dotted key; a section counts as stated where any key below it is.
        by: dotted keys that go against it.
    """
    said = context.stated.get(option, ())
    level = _level(context, said)
    if level == _UNSTATED:
        return False
    against = [context.stated.get(key) or _overridden_section(context, key) for key in by]
    if any(_level(context, origins) > level for origins in against):
        return False
    if level == _RECIPE and any(_chosen(context, origins) for origins in against):
        return False
    files = {_file(origin) for origin in said}
    return level > _FILE or all(
        not origins or files & {_file(origin) for origin in origins} for origins in against
    )


def _overridden_section(context: CheckContext, key: str) -> tuple[str, ...]:
    """The override that gave a whole section above the key, if one did."""
    parts = key.split(".")
    above = (".".join(parts[:length]) for length in range(1, len(parts)))
    origins = (context.origins.get(section, "") for section in above)
    return tuple(origin for origin in origins if origin.startswith(_BY_OVERRIDE))


def _level(context: CheckContext, origins: Sequence[str]) -> int:
    """How close to the person the closest of them is."""
    if any(origin.startswith(_BY_OVERRIDE) for origin in origins):
        return _OVERRIDE
    if any(_file(origin) == f"recipes/{context.name}.yaml" for origin in origins):
        return _RECIPE
    return _FILE if origins else _UNSTATED


def _chosen(context: CheckContext, origins: Sequence[str]) -> bool:
    """Whether a group says so whose option an override chose."""
    keys = (text.lstrip("+").partition("=") for text in context.compiled.overrides)
    groups = tuple(f"conf/{key}/" for key, _, value in keys if not value.startswith("{"))
    return any(origin.startswith(groups) for origin in origins)


def _file(origin: str) -> str:
    return origin.rpartition(":")[0]
