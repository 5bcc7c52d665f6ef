"""Options that the comparisons have in common."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rivals.contestants import CONTESTANTS, chosen
from slmcompile.machine.process import thread_count


def add_common(parser: argparse.ArgumentParser, contestants: str) -> None:
    """What is trained, by whom, and where their environments are; ``contestants`` by default."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "slmcompile-rivals")
    parser.add_argument("base", type=_folder, help="folder of the base model")
    parser.add_argument("data", type=_folder, help="folder with train.parquet")
    parser.add_argument(
        "--contestants",
        type=_chosen,
        default=contestants,
        help=f"of {', '.join(CONTESTANTS)}, with commas; {contestants} unless said",
    )
    parser.add_argument("--rank", type=int, default=16, help="of LoRA")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=thread_count("auto"))
    parser.add_argument("--venvs", type=_folder, default=str(cache), help="for environments")


def _folder(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _chosen(names: str) -> object:
    try:
        return chosen(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
