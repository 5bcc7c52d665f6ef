"""A project in which a recipe is trained twice: over the full-precision base, and over int4's.

The sentences of voice-intents are divided as the recipe divides them, by its own ``data`` stage;
training and validation are then files of their own, and the test is held_out.jsonl. Knows nothing
of what is measured.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from slmcompile import api
from slmcompile.cli.init import init
from slmcompile.data.store import read_split
from slmcompile.machine.process import python_module
from slmcompile.plans.definition import Plan

REPOSITORY = Path(__file__).parent.parent
SENTENCES = "data/voice-intents/commands.jsonl"
HELD_OUT = "data/voice-intents/held_out.jsonl"
GROUP = "conf/data/voice-intents.yaml"
DIVIDED = "divided.json"

INT4, INT8 = "cpu-int4", "cpu-int8"
BEFORE, OVER = "full-precision", "over-int4"
VARIANTS = {BEFORE: (INT8, INT4), OVER: (INT4,)}
"""The recipes, and what each is exported to; of several adapters int4 alone."""

BATCH = 32
"""Rows answered at once: the most there are, as there are many."""


def recipe_of(name: str, variant: str) -> dict[str, Any]:
    """The recipe as it is trained and exported here."""
    found: dict[str, Any] = yaml.safe_load(
        (REPOSITORY / f"recipes/{name}.yaml").read_text(encoding="utf-8")
    )
    targets = [each for each in VARIANTS[variant] if each == INT4 or "adapters" not in found]
    others = [each for each in found["defaults"] if each != "_self_"]
    kept = [each for each in others if not {"target", "track"} & set(each)]
    found["defaults"] = [*kept, {"target": targets}, {"track": "none"}, "_self_"]
    alone = {"limit": None, "base_model": False, "baselines": False, "batch_size": BATCH}
    found["eval"] = {**found.get("eval", {}), **alone}
    for adapter in found.get("adapters", {}).values():
        adapter.get("eval", {}).pop("limit", None)
    found["train"] = {**found.get("train", {}), "over": INT4 if variant == OVER else None}
    stands = "beside" if variant == OVER else "merged"
    own = found.get("target", {})
    found["target"] = {each: {**own.get(each, {}), "adapters": stands} for each in targets}
    found.pop("gates", None)
    return found


def make_project(root: Path, recipe: str, overrides: Sequence[str]) -> dict[str, str]:
    """Makes it, unless it is there; returns ``digests`` of the recipe's own rows."""
    if not (root / DIVIDED).is_file():
        for name in ("conf", "data"):
            shutil.copytree(REPOSITORY / name, root / name, dirs_exist_ok=True)
        (root / "recipes").mkdir(exist_ok=True)
        for variant in VARIANTS:
            text = yaml.safe_dump(recipe_of(recipe, variant), sort_keys=False)
            (root / f"recipes/{variant}.yaml").write_text(text, encoding="utf-8")
        init(folder=root)
        run(root, BEFORE, ["--select", "+data", *overrides])
        plan = api.compile(BEFORE, overrides, project=root)
        own = digests(root, plan)
        for view in plan.views.values():
            if view.effective["data"]["source"].get("path") == SENTENCES:
                give_splits(root, root / view.stage("data").out)
        (root / DIVIDED).write_text(json.dumps(own), encoding="utf-8")
    found: dict[str, str] = json.loads((root / DIVIDED).read_text(encoding="utf-8"))
    return found


def give_splits(root: Path, divided: Path) -> None:
    """Writes the rows of training and validation into files, and the test is what was held out."""
    lines = (root / SENTENCES).read_text(encoding="utf-8").splitlines(keepends=True)
    files = {"test": HELD_OUT}
    for split in ("train", "validation"):
        files[split] = f"{Path(SENTENCES).parent}/{split}.jsonl"
        own = "".join(lines[row.id] for row in read_split(divided, split))
        (root / files[split]).write_text(own, encoding="utf-8")
    group = yaml.safe_load((REPOSITORY / GROUP).read_text(encoding="utf-8"))
    group["source"] = {"type": "file", "files": files}
    group.pop("split")
    (root / GROUP).write_text(yaml.safe_dump(group, sort_keys=False), encoding="utf-8")


def digests(root: Path, plan: Plan) -> dict[str, str]:
    """By adapter, of all that training and validation see, in its order."""
    found = {}
    for member, view in plan.views.items():
        data = root / view.stage("data").out
        rows = [row for split in ("train", "validation") for row in read_split(data, split)]
        seen = json.dumps([(row.input_ids, row.labels) for row in rows])
        found[member] = hashlib.sha256(seen.encode()).hexdigest()
    return found


def run(root: Path, recipe: str, words: Sequence[str]) -> float:
    """Seconds of ``slmcompile run``; ends here where it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        python_module("slmcompile", "run", recipe, *words), cwd=root, stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise SystemExit(f"slmcompile run {recipe}: exit {done.returncode}")
    return time.perf_counter() - began
