"""The lock of the tool: the exact versions of slmcompile and of all that it needs, as installed.

Knows no hashes of packages: an installed one does not say what archive it came from.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from slmcompile.console.errors import MissingError

_TOOL = "slmcompile"
_FOR_DEVELOPERS = frozenset({"dev", "test"})
_HEAD = f"""\
# Exact versions of {_TOOL} and all that it needs: what the jobs of a pull request install, and
# what measures. Renew it by a pull request of its own. Without hashes pip trusts its index.
"""
_FROM_FOLDER = """\
# It was installed from a folder here, which no runner has: put in its place a version that the
# runners' index has, or the address of a wheel: {named} @ https://…
"""
_FROM_GIT = """\
# pip takes no git+ address beside hashes. To have them, put in its place a version that the
# runners' index has, or the address of a wheel: {named} @ https://…
"""
_NO_STORAGE = """\
# No driver of a bucket is installed here. If a remote of yours is one: pip install '{tool}[s3]'
# (gs, azure, ssh), remove this file and have it written again.
"""
_STORAGES = frozenset({"azure", "gs", "s3", "ssh"})
"""Extras that are drivers of remotes."""


def own_lock(needed: Collection[str] = ()) -> str:
    """A requirements file.

    Args:
        needed: extras that have to be in it; others are where all of them is installed.

    Raises:
        MissingError: something that slmcompile needs is not installed (exit 69).
    """
    tool = _installed(_TOOL)
    whole = set(_whole_extras(tool))
    if lacking := sorted({*needed} - whole):
        named = f"{_TOOL}[{','.join(lacking)}]"
        raise MissingError(
            f"{named} is not installed, which the jobs need", f"pip install '{named}'"
        )
    extras = tuple(sorted(whole))
    found = _needed(extras)
    named = f"{_TOOL}[{','.join(extras)}]" if extras else _TOOL
    origin = json.loads(tool.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id")
    line = f"{named} @ git+{origin['url']}@{commit}" if commit else f"{named}=={tool.version}"
    note = _FROM_GIT if commit else _FROM_FOLDER if "dir_info" in origin else ""
    bucket = "" if _STORAGES & whole else _NO_STORAGE
    head = _HEAD + note.format(named=named) + bucket.format(tool=_TOOL)
    return "".join(f"{part}\n" for part in [f"{head}{line}", *found])


def _needed(extras: tuple[str, ...]) -> list[str]:
    """``name==version`` of each package below the tool; local parts of versions are on no index."""
    versions: dict[str, str] = {}
    waiting, seen = [(_TOOL, extra) for extra in ("", *extras)], set[tuple[str, str]]()
    while waiting:
        if (each := waiting.pop()) in seen:
            continue
        seen.add(each)
        name, extra = each
        package = _installed(name)
        versions[name] = Version(package.version).public
        for need in _requirements(package, extra):
            below = canonicalize_name(need.name)
            waiting += [(below, wanted) for wanted in ("", *need.extras)]
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name != _TOOL]


def _whole_extras(package: Distribution) -> Iterator[str]:
    """Extras of users of which everything is installed, so that recipes here may need them."""
    for extra in package.metadata.get_all("Provides-Extra") or ():
        if extra in _FOR_DEVELOPERS:
            continue
        try:
            for need in _requirements(package, extra):
                distribution(need.name)
        except PackageNotFoundError:
            continue
        yield extra


def _requirements(package: Distribution, extra: str) -> Iterator[Requirement]:
    for text in package.requires or ():
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise MissingError(f"{name} is not installed", "install slmcompile anew") from error
