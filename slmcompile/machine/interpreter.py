"""What this Python is made of: the folders and variables without which it would compute otherwise.

For a container that holds nothing else. Installed packages are found wherever they really lie;
code of a project is none of them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/nix/store",
)  # fmt: skip
_OF_A_PREFIX = ("bin", "lib", "lib64", "pyvenv.cfg")
"""Of an environment's folder: a project could be its own environment."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})

_SETS_THREADS = re.compile(
    r"(OMP|GOMP|KMP|MALLOC|OPENBLAS)_[A-Z0-9_]+|MKL_NUM_THREADS|NUMEXPR_(NUM|MAX)_THREADS"
    r"|ONEDNN_PRIMITIVE_CACHE_CAPACITY|GLIBC_TUNABLES|HF_HUB_OFFLINE|PYTHONHASHSEED"
    r"|TOKENIZERS_PARALLELISM|TRANSFORMERS_OFFLINE|PYDANTIC_DISABLE_PLUGINS"
)
"""Variables of how libraries compute, which results may depend on."""
_PLAIN = re.compile(r"[\w.,:;=+*(){}-]{1,200}")


@lru_cache(maxsize=1)
def parts_of_python() -> tuple[Path, ...]:
    """Files and folders that a process of this Python reads, as they are named and as they lie."""
    found = [Path(each) for each in _SYSTEM]
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        if prefix not in {"/usr", "/"}:
            places = (Path(prefix), Path(prefix).resolve())
            found += [place / part for place in places for part in _OF_A_PREFIX]
    found += [Path(sys.executable), Path(sys.executable).resolve()]
    found += [Path(each) for each in sys.path if _INSTALLED & {*Path(each).parts}]
    found += _ours()
    found += _installed_by_name()
    there = dict.fromkeys(each for each in found if each.is_absolute() and each.exists())
    return tuple(each for each in there if not any(above in there for above in each.parents))


def variables_of_python() -> dict[str, str]:
    """The environment of such a process: how it finds its packages, and how these compute."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if _SETS_THREADS.fullmatch(name) and _PLAIN.fullmatch(value)
    }
    folders = [each for each in sys.path if Path(each).is_absolute() and ":" not in each]
    libraries = [
        each
        for each in os.environ.get("LD_LIBRARY_PATH", "").split(":")
        if any(Path(each).is_relative_to(part) for part in parts_of_python())
    ]
    return {
        **kept,
        **({"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": ":".join(folders),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "LOGNAME": "nobody",
    }


def _ours() -> list[Path]:
    """This package and the groups that it comes with, which lie beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return [package, package.parent / "conf" / "policy"]


def _installed_by_name() -> Iterator[Path]:
    """Packages that lie where they are worked on, and are installed by a name alone."""
    for distribution in distributions():
        folder = _worked_on(distribution)
        if folder is None:
            continue
        named = (distribution.read_text("top_level.txt") or "").split()
        for name in named or _packages_in(folder):
            try:
                spec = find_spec(name) if name.isidentifier() else None
            except (ImportError, ValueError):
                continue
            if spec is not None:
                places = spec.submodule_search_locations or [spec.origin or ""]
                yield from (Path(place) for place in places if Path(place).is_relative_to(folder))


def _worked_on(distribution: Distribution) -> Path | None:
    """The folder of one that is installed in place (PEP 660)."""
    try:
        told = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable, url = told.get("dir_info", {}).get("editable"), str(told.get("url", ""))
    except (ValueError, AttributeError):
        return None
    return Path(url.removeprefix("file://")) if editable and url.startswith("file:///") else None


def _packages_in(folder: Path) -> list[str]:
    """Names of the packages in those of Python's folders that lie in one."""
    within = [Path(each) for each in sys.path if each and Path(each).is_relative_to(folder)]
    return sorted({path.parent.name for each in within for path in each.glob("*/__init__.py")})
