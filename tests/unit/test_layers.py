"""The folders of the package layer: whoever imports, imports from below."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "slmcompile"

FLOORS = (
    # What a person sees, the machine, files, plain records.
    "console",
    "machine",
    "files",
    "shapes",
    # The tables' machinery and the tables; recipes are made of them.
    "registry",
    "metrics",
    "optimizers",
    "losses",
    "methods",
    "providers",
    "sources",
    "data_steps",
    "templates",
    "recipe",
    # What is compiled, and what DVC remembers of it.
    "hub",
    "models",
    "plans",
    "lock",
    "state",
    "execution",
    # What stages do.
    "base",
    "data",
    "facts",
    "inference",
    "scoring",
    "export",
    "report",
    "tracking",
    # Judging and running.
    "estimate",
    "checks",
    "training",
    "drift",
    "search",
    "stages",
    "provenance",
    # What people call.
    "explain",
    "release",
    "versions",
    "ci",
    "serve",
    "api",
    "cli",
    "__main__",
)
"""From the ground up. A folder imports only from those before it; some are reserved."""


def _folder(module: str) -> str:
    """The floor of ``slmcompile.<floor>…``; the package itself hands out its API."""
    _, _, inside = module.partition(".")
    return inside.partition(".")[0] or "api"


def _imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            # `from slmcompile import api` imports a floor, and `__version__` none.
            bare = module == "slmcompile"
            names = [name.name for name in node.names if name.name != "__version__"]
            found |= {f"{module}.{name}" for name in names} if bare else {module}
    return {module for module in found if module.partition(".")[0] == "slmcompile"}


def _climbs() -> list[str]:
    """Every import of a floor above."""
    height = {floor: number for number, floor in enumerate(FLOORS)}
    climbs = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        if inside.parts[0] in {"conf", "examples"}:
            continue
        own = "api" if inside.name == "__init__.py" and len(inside.parts) == 1 else inside.parts[0]
        own = own.removesuffix(".py")
        climbs += [
            f"{inside}: {module}"
            for module in sorted(_imports(path))
            if height[_folder(module)] > height[own]
        ]
    return climbs


def test_no_folder_imports_from_a_floor_above_its_own() -> None:
    assert _climbs() == []


def test_every_folder_has_a_floor() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(FLOORS)


def test_an_import_of_a_floor_above_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plans").mkdir()
    text = (
        "def f():\n    from slmcompile.checks.judge import judge\n    from slmcompile import api\n"
    )
    (tmp_path / "plans" / "late.py").write_text(text)
    monkeypatch.setattr("tests.unit.test_layers.PACKAGE", tmp_path)
    assert _climbs() == [
        "plans/late.py: slmcompile.api",
        "plans/late.py: slmcompile.checks.judge",
    ]
