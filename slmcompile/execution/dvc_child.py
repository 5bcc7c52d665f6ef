"""DVC in a process of its own: imports itself, and then does what it is told on standard input.

Half of what a run with nothing to do costs is importing DVC, which this way goes on while the
recipe is planned. One line is read, a JSON list of DVC's arguments; without one nothing is done.
"""

from __future__ import annotations

import json
import logging
import os
import sys

import dvc.commands.repro
import dvc.repo  # noqa: F401
from dvc.cli import main
from dvc.ui import ui


def run() -> int:
    """The end of ``dvc ARGUMENTS``, without its chatter."""
    told = sys.stdin.readline()
    if not told:
        return 0
    # What DVC starts gets an end of file, as it gets no more of ours.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # `dvc --quiet` hides errors too, and without it DVC writes of every stage that it passes over.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    ui.enable = lambda: None
    status: int = main(json.loads(told))
    return status


if __name__ == "__main__":
    sys.exit(run())
