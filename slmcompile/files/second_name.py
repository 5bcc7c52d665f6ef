"""A second name for the bytes of a file, where the file system allows it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link_or_copy(source: str | Path, to: Path) -> None:
    """A hard link, as weights are large; a copy across file systems and where there are no links.

    Args:
        source: a file, and not a link to one.
        to: what is not there yet; folders above it are made.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
