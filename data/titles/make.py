"""Makes functions.jsonl: functions of Python's standard library, each with what it does in a line.

The line is the first of the function's docstring, which the code is shown without. It reads the
library of CPython 3.11.7, by default that of the Python that runs it; its syntax tree alone is
read, nothing of it is executed. Run again, it writes the same bytes:

    python3.11 data/titles/make.py
    python3 data/titles/make.py --lib /usr/local/lib/python3.11
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import sysconfig
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

SHA256 = "201fbdf4137edfc4e5cb4afbc4ed1bba90c81865adbb0d5b813df356c0a690c7"
"""Of the names and hashes of all files that are read."""

SKIPPED = frozenset(
    ("__phello__", "encodings", "ensurepip", "idlelib", "lib2to3", "lib-dynload", "msilib",
     "pydoc_data", "site-packages", "test", "tests", "turtledemo")
)  # fmt: skip
"""Folders of tests, tables, programs and what is not Python's own."""
FOREIGN = re.compile(
    r"^.*copyright(?!.*Python Software Foundation).*$", re.IGNORECASE | re.MULTILINE
)
"""A file with such a line has, or could have, a notice of its own beside Python's."""

FEWEST_WORDS, MOST_WORDS = 4, 14
LONGEST = 300
"""Characters of code."""
MOST_OF_MODULE = 90
ROWS = 1300

SENTENCE = re.compile(r"[A-Z][a-z]+ [^\n]*[\w)'\"`]\.?")
NO_SUMMARY = re.compile(
    r">>>|->|::|:param|https?:|\b(deprecated|todo|fixme|xxx|internal|overrid\w+|see|test|helper"
    r"|obsolete|subclass\w*|superclass|same as|like|called|private|stub|equivalent)\b|\. "
    r"|[^\x20-\x7e]",
    re.IGNORECASE,
)
"""Lines that tell how a function is used or came about and not what it does, or say two things."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Row:
    """A function, where it is from, and its line."""

    module: str
    name: str
    code: str
    summary: str


def files(lib: Path) -> dict[str, str]:
    """Text of the files that are read, by their paths in the library.

    Raises:
        SystemExit: it is another library than the data was made of.
    """
    found: dict[str, str] = {}
    digest = hashlib.sha256()
    for path in sorted(lib.rglob("*.py"), key=lambda path: path.relative_to(lib).as_posix()):
        name = path.relative_to(lib).as_posix()
        if SKIPPED & set(name.split("/")) or name.startswith("_sysconfigdata"):
            continue
        content = path.read_bytes()
        text = content.decode("utf-8")
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
        if not FOREIGN.search(text):
            found[name] = text
    if digest.hexdigest() != SHA256:
        raise SystemExit(
            f"{lib}: not the library of CPython 3.11.7: {digest.hexdigest()}, not {SHA256}\n"
            "give that one's folder as --lib"
        )
    return found


def functions(tree: ast.AST) -> Iterator[Function]:
    """All of a file, in their order; not those within functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node
        else:
            yield from functions(node)


def summary_of(function: Function) -> str | None:
    """The docstring's first line, where that is a sentence of its own that tells what it does."""
    docstring = ast.get_docstring(function)
    if not docstring:
        return None
    first, _, rest = docstring.partition("\n")
    first = first.strip()
    if rest.split("\n", 1)[0].strip() or not SENTENCE.fullmatch(first):
        return None
    if not FEWEST_WORDS <= len(first.split()) <= MOST_WORDS or NO_SUMMARY.search(first):
        return None
    return first.rstrip(".") + "."


def code_of(function: Function, text: str) -> str | None:
    """Its source without docstring, decorators and indentation; None where it does nothing."""
    body = function.body[1:]
    if all(isinstance(node, ast.Pass | ast.Raise | ast.Expr) for node in body):
        return None
    lines = text.splitlines()
    docstring = function.body[0]
    if docstring.lineno == function.lineno or body[0].lineno == docstring.end_lineno:
        return None
    above = lines[function.lineno - 1 : docstring.lineno - 1]
    below = lines[docstring.end_lineno : function.end_lineno]
    kept = [line.rstrip() for line in (*above, *below) if line.strip()]
    code = textwrap.dedent("\n".join(kept))
    # Text in it that begins at the margin keeps the rest from being moved there.
    return code if code.startswith(("def ", "async def ")) else None


def rows_of(name: str, text: str) -> Iterator[Row]:
    """Usable rows of a file; special methods, which are named after what they do, left out."""
    module = name.partition("/")[0].removesuffix(".py")
    for function in functions(ast.parse(text)):
        summary = summary_of(function)
        if summary is None or function.name.startswith("__"):
            continue
        code = code_of(function, text)
        if code is not None and code.isascii() and len(code) <= LONGEST:
            yield Row(module, function.name, code, summary)


def different(rows: Iterable[Row]) -> Iterator[Row]:
    """The first of those with one line or one code, whatever the signs and names of arguments."""
    seen: set[str] = set()
    for row in rows:
        keys = {
            " ".join(re.findall(r"\w+", row.summary.lower())),
            " ".join(re.findall(r"\w+", row.code)),
        }
        if not keys & seen:
            yield row
        seen |= keys


def sample(rows: Iterable[Row]) -> list[Row]:
    """As many as are wanted, by a hash, no module with more than a few."""
    of_module: Counter[str] = Counter()
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: hashlib.sha256(row.code.encode()).hexdigest()):
        of_module[row.module] += 1
        if of_module[row.module] <= MOST_OF_MODULE and len(found) < ROWS:
            found.append(row)
    return found


def main() -> None:
    """Writes functions.jsonl and says what is in it."""
    parser = argparse.ArgumentParser(description="Makes functions.jsonl.")
    parser.add_argument("--lib", type=Path, default=Path(sysconfig.get_path("stdlib")))
    texts = files(parser.parse_args().lib)
    usable = list(different(row for name, text in texts.items() for row in rows_of(name, text)))
    rows = sample(usable)
    with (HERE / "functions.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(vars(row)) + "\n")
    modules = Counter(row.module for row in rows)
    print(f"{len(texts)} files, {len(usable)} usable, {len(rows)} of {len(modules)} modules")
    print(", ".join(f"{module} {count}" for module, count in modules.most_common(25)))


if __name__ == "__main__":
    main()
