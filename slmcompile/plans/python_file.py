"""A Python file of the project that a recipe names: read as text here, executed by ``exec`` alone.

Its bytes are an input of the stage that executes it, and so are the versions of the packages that
it imports. Bytes of any other file would be in no hash: it may import what is installed, and
nothing that lies in the project. Reads its syntax; imports and executes none of it.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from slmcompile.console.errors import BadRecipeError, MissingError, RefusedError
from slmcompile.console.printable import printable
from slmcompile.files.safe_read import read_regular
from slmcompile.recipe.project import Project

_MOST_BYTES = 256 << 10
_BY_NAME = frozenset({"importlib", "runpy", "pkgutil", "imp"})
"""Modules that import by names which only a run would know."""
_EXECUTES = frozenset({"__import__", "exec", "eval"})
_OURS = "slmcompile"


def imported_packages(
    project: Project, path: str, name: str, options: Mapping[str, object], where: str
) -> tuple[str, ...]:
    """The installed packages that a file imports, sorted, if it may be executed.

    Args:
        project: the project.
        path: of the file in it, which has been looked at.
        name: what it must define: a class, or a function that makes an object.
        options: arguments that this is called with.
        where: ``file:line: key`` of what names the file.

    Raises:
        BadRecipeError: it is no Python, or has no such name or option (exit 78).
        MissingError: it imports what is not installed (exit 69).
        RefusedError: it imports what lies in the project, or by names that nobody can read in it;
            or it is too large (exit 77).
    """
    data = read_regular(project.root, path, where, _MOST_BYTES) or b""
    if len(data) > _MOST_BYTES:
        mend = "name a file of code, not of data"
        raise RefusedError(f"{where}: {path}: larger than {_MOST_BYTES} bytes", mend)
    tree = _tree(data)
    if isinstance(tree, str):
        raise BadRecipeError(f"{where}: {path}: {tree}", "correct the file")
    found = {
        package
        for line, module in _imports(tree, path, where)
        if (package := _package_of(project, path, line, module, where))
    }
    _require(tree, path, name, options, where)
    return tuple(sorted(found))


@lru_cache(maxsize=16)
def _tree(data: bytes) -> ast.Module | str:
    """What Python makes of the bytes, or why it makes nothing of them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in its texts, which are no matter here
            return ast.parse(data)
    except SyntaxError as error:
        return f"line {error.lineno or 1}: no Python: {printable(str(error.msg))}"
    except ValueError as error:
        return f"no Python: {printable(str(error))}"
    except (RecursionError, MemoryError):
        return "no Python that can be read: it is too deep"


def _require(
    tree: ast.Module, path: str, name: str, options: Mapping[str, object], where: str
) -> None:
    """That the file defines the name, and that it can be called with the options."""
    defined = dict(_defined(tree))
    if name not in defined:
        near = get_close_matches(name, sorted(defined), n=1, cutoff=0.5)
        known = ", ".join(sorted(defined)) or "nothing"
        raise BadRecipeError(
            f"{where}: {path} defines no {name} outside of other definitions",
            f"did you mean {near[0]!r}?" if near else f"it defines {known}",
        )
    made, own = defined[name], 0
    if isinstance(made, ast.ClassDef):
        inside = (each for each in made.body if isinstance(each, ast.FunctionDef))
        made, own = next((each for each in inside if each.name == "__init__"), None), 1
    # Of a class without one of its own, the arguments are those of what it is derived from.
    if isinstance(made, ast.FunctionDef):
        at = f"{path}:{made.lineno}"
        _require_options(made.args, own, at, options, f"{where.rpartition('.')[0]}.options")


def _require_options(
    taken: ast.arguments, own: int, at: str, options: Mapping[str, object], where: str
) -> None:
    """That what a function takes, but for its first ``own`` arguments, is given and no more."""
    plain = [each.arg for each in (*taken.posonlyargs, *taken.args)][own:]
    known = [*plain, *(each.arg for each in taken.kwonlyargs)]
    pairs = zip(taken.kwonlyargs, taken.kw_defaults, strict=True)
    needed = plain[: max(0, len(plain) - len(taken.defaults))]
    needed += [each.arg for each, default in pairs if default is None]
    for option in options:
        if option not in known and taken.kwarg is None:
            near = get_close_matches(option, known, n=1)
            raise BadRecipeError(
                f"{where}.{option}: {at} does not take it",
                f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'none'}",
            )
    for argument in needed:
        if argument not in options:
            mend = f"give it: options: {{{argument}: …}}"
            raise BadRecipeError(f"{where}: {at} needs {argument}", mend)


def _defined(tree: ast.Module) -> Iterator[tuple[str, ast.stmt | None]]:
    """What the file defines at its top, and how where that can be read."""
    for each in tree.body:
        match each:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name, each
            case ast.Assign(targets=targets):
                yield from ((one.id, None) for one in targets if isinstance(one, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, None


def _imports(tree: ast.Module, path: str, where: str) -> Iterator[tuple[int, str]]:
    """Line and top-level module of every import, wherever in the file it stands."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=level, module=module) if level:
                raise _of_the_project(path, node.lineno, "." * level + (module or ""), where)
            case ast.ImportFrom(module=str(module)):
                yield node.lineno, module.partition(".")[0]
            case ast.Import(names=names):
                yield from ((node.lineno, one.name.partition(".")[0]) for one in names)
            case ast.Name(id=used) if used in _EXECUTES:
                raise _by_name(path, node.lineno, used, where)


def _package_of(project: Project, path: str, line: int, module: str, where: str) -> str:
    """The installed package that a module is of; empty of Python's own."""
    if module in _BY_NAME:
        raise _by_name(path, line, module, where)
    if module in sys.stdlib_module_names:
        return ""
    place = _place(module)
    if place is None:
        parents = (project.root / path).parents
        above = [each for each in parents if each.is_relative_to(project.root)]
        if any(
            (folder / module).is_dir() or (folder / f"{module}.py").is_file() for folder in above
        ):
            raise _of_the_project(path, line, module, where)
        mend = "install the package, or take the import out"
        raise MissingError(
            f"{where}: {path}:{line}: no installed package has {printable(module)}", mend
        )
    # Our own code has epochs, wherever it lies.
    if module != _OURS and place.is_relative_to(project.root) and not _is_installed(place):
        raise _of_the_project(path, line, module, where)
    found = _distribution_of(module)
    if not found:
        raise RefusedError(
            f"{where}: {path}:{line}: {module} belongs to no installed package, so that nothing"
            " says which version it is",
            "install it as a package",
        )
    return found


def _place(module: str) -> Path | None:
    """Where a module of that name would be imported from; finding it imports nothing."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return next((Path(each).resolve() for each in places if each and Path(each).exists()), None)


def _is_installed(place: Path) -> bool:
    """Whether it lies where packages are installed: an environment may lie in the project."""
    return any(part in {"site-packages", "dist-packages"} for part in place.parts)


def _distribution_of(module: str) -> str:
    try:
        if distribution(module):
            return module
    except PackageNotFoundError:
        pass
    return min(packages_distributions().get(module, ()), default="")


def _of_the_project(path: str, line: int, module: str, where: str) -> RefusedError:
    return RefusedError(
        f"{where}: {path}:{line}: imports {printable(module)}, a file of the project whose bytes"
        " would be in no hash",
        f"write it into {path}, or install it as a package",
    )


def _by_name(path: str, line: int, name: str, where: str) -> RefusedError:
    return RefusedError(
        f"{where}: {path}:{line}: {name} can import what no plan can read in the file",
        "import installed packages by `import` alone",
    )
