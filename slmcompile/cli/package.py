"""``package``: one export of a recipe as an archive."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from slmcompile.console.errors import Exit
from slmcompile.console.printable import printable
from slmcompile.console.terminal import print_json
from slmcompile.explain.results import write
from slmcompile.recipe.project import find_project


def package(arguments: Namespace) -> int:
    """Writes the archive and says what it is."""
    from slmcompile.release.package import package as make
    from slmcompile.release.package import to_json

    out = Path(arguments.out) if arguments.out else None
    made = make(find_project(), arguments.recipe, arguments.target, arguments.adapter, out)
    if arguments.json:
        print_json(to_json(made))
        return Exit.DONE
    files = f"{len(made.files)} files, {write(made.size, 'size')}"
    print(printable(f"wrote   {made.path}  ({made.target}, {files})"))
    print(f"sha256  {made.sha256}")
    for note in made.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    return Exit.DONE
