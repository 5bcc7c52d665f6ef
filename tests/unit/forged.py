"""What a pull request may put in the place of generated files, outputs and the journal.

Each attempt spoils a project that has run; lock files and cache objects are made to match, as their
author would have made them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from slmcompile.console.errors import Exit
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache, read_lock

REFUSED = Exit.REFUSED
BRACKETS = "[" * 100_000
MANY = '{"a": [' + "[]," * 8_000_000 + "1]}"
SPEC = "pipelines/tiny/plan/train.json"
METRICS = "pipelines/tiny/metrics/torch.json"
JOURNAL = ".slmcompile/journal.jsonl"
CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json")

Spoil = Callable[[Project, Path], None]


@dataclass(frozen=True)
class Forged:
    """One attempt.

    Attributes:
        name: what it tries.
        code: the exit code it must get.
        words: the command line.
        spoil: does it, given a folder outside of the project with ``secret.json`` in it.
    """

    name: str
    code: int
    words: tuple[str, ...]
    spoil: Spoil


def clear(path: Path) -> Path:
    """Takes away what is there, and makes the folders above."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def text(path: str, content: str) -> Spoil:
    """A file; of one that a lock file records, with the hash there made to match."""

    def spoil(project: Project, _: Path) -> None:
        clear(project.root / path).write_text(content, encoding="utf-8")
        lock = project.pipelines / "tiny/dvc.lock"
        document = yaml.safe_load(lock.read_text(encoding="utf-8"))
        for stage in document["stages"].values():
            for entry in [*stage["deps"], *stage["outs"]]:
                if entry["path"] == path:
                    entry["md5"] = hashlib.md5(content.encode()).hexdigest()
                    entry.pop("size", None)
        lock.write_text(yaml.safe_dump(document), encoding="utf-8")

    return spoil


def link(path: str, to: str = "") -> Spoil:
    """A link, to the outside if nothing else is said."""
    return lambda project, outside: clear(project.root / path).symlink_to(to or outside)


def fifo(path: str) -> Spoil:
    return lambda project, _: os.mkfifo(clear(project.root / path))


def folder(path: str) -> Spoil:
    return lambda project, _: clear(project.root / path).mkdir()


def both(*spoils: Spoil) -> Spoil:
    def spoil(project: Project, outside: Path) -> None:
        for each in spoils:
            each(project, outside)

    return spoil


def shared(kind: str, name: str, made: Spoil | str) -> Spoil:
    """A file of the base or data stage's output, with lock and cache made to match."""

    def spoil(project: Project, outside: Path) -> None:
        (pipeline,) = (path.name for path in project.pipelines.glob(f"{kind}-*"))
        path = f"outputs/{pipeline}/{name}"
        if isinstance(made, str):
            clear(project.root / path).write_text(made, encoding="utf-8")
        else:
            made(project, outside / path)
        md5 = read_lock(project, pipeline)[kind].outs[f"outputs/{pipeline}"]
        listing = Cache(project).blob(md5)
        (known, *_) = json.loads(listing.read_text(encoding="utf-8"))
        names = sorted(each.name for each in (project.root / f"outputs/{pipeline}").iterdir())
        entries = [{"md5": known["md5"], "relpath": each} for each in names]
        listing.write_text(json.dumps(entries), encoding="utf-8")
        lock = project.pipelines / pipeline / "dvc.lock"
        lines = lock.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not line.strip().startswith("size:")]
        lock.write_text("\n".join(kept), encoding="utf-8")

    return spoil


def base_before(spec: Spoil) -> Spoil:
    """The spec of the base stage that ``train`` names as the one that it read before."""
    names_it = text(SPEC, json.dumps({"inputs": {"base": "outputs/base-deadbeef"}}))

    def spoil(project: Project, outside: Path) -> None:
        (pipeline,) = (path.name for path in project.pipelines.glob("base-*"))
        (project.pipelines / pipeline / "dvc.lock").unlink()
        both(names_it, spec)(project, outside)

    return spoil


def everywhere(name: str, spoil: Spoil, *, codes: tuple[int, int, int]) -> list[Forged]:
    """Under ``plan``, ``why`` and ``sync --all --check``."""
    commands = (("plan", "tiny"), ("why", "tiny"), ("sync", "--all", "--check"))
    return [
        Forged(f"{' '.join(words)}: {name}", code, words, spoil)
        for words, code in zip(commands, codes, strict=True)
    ]


SYNC = ("sync", "--all")
OUT = "pipelines/tiny/plan"
GENERATED = [
    *(
        Forged(f"sync: {name}", REFUSED, SYNC, spoil)
        for name, spoil in (
            ("plan leads out", link(OUT)),
            ("plan leads nowhere", link(OUT, "nowhere")),
            ("a pipeline leads out", link("pipelines/tiny")),
            ("pipelines leads out", link("pipelines")),
            ("another pipeline leads out", link("pipelines/zz")),
            ("another's plan leads out", link("pipelines/zz/plan")),
            ("an orphan's dvc.yaml leads out", link("pipelines/zz/dvc.yaml")),
            ("a spec leads out", link(SPEC)),
            ("a spec is a device", link(SPEC, "/dev/zero")),
            ("a spec is a FIFO", fifo(SPEC)),
            ("a spec is a folder", folder(SPEC)),
            ("pipelines is a file", lambda project, _: clear(project.pipelines).write_text("x")),
        )
    ),
    *everywhere("a spec is a FIFO", fifo(SPEC), codes=(0, 0, REFUSED)),
    *everywhere("a spec is a device", link(SPEC, "/dev/zero"), codes=(0, 0, REFUSED)),
]
STALE = (0, 0, Exit.STALE)
SPECS = [
    attempt
    for name, content in (
        ("deep", BRACKETS),
        ("deep below a key", '{"config": {"a": ' + "[" * 900 + "]" * 900 + "}}"),
        ("of many values", MANY),
        ("of a list of inputs", '{"inputs": [1]}'),
        ("of inputs that are none", '{"inputs": {"base": [1]}}'),
        ("of a list of packages", '{"packages": [1]}'),
        ("of no number", '{"config": {"seed": NaN}}'),
        ("of many keys", json.dumps({"config": {f"k{n}": n for n in range(70_000)}})),
    )
    for attempt in (
        *everywhere(f"a spec {name}", text(SPEC, content), codes=STALE),
        Forged(f"diff: a spec {name}", 0, ("diff", "tiny", "tiny"), text(SPEC, content)),
    )
] + everywhere(
    "an earlier spec leads out",
    base_before(
        lambda project, outside: clear(
            project.root / "pipelines/base-deadbeef/plan/base.json"
        ).symlink_to(outside / "secret.json")
    ),
    codes=STALE,
)
METRIC = [
    Forged(f"diff: metrics {name}", 0, ("diff", "tiny", "tiny"), spoil)
    for name, spoil in (
        ("are a device", link(METRICS, "/dev/zero")),
        ("are a FIFO", fifo(METRICS)),
        ("lead out", link(METRICS)),
        ("deep", text(METRICS, BRACKETS)),
        ("of many values", text(METRICS, MANY)),
    )
]
LINES = (
    "null",
    "[" * 3000,
    '{"' + "[" * 50_000_000,
    "\n" * 5_000_000,
    '{"stage": "tiny/train", "seconds": "x"}',
    '{"stage": "tiny/train", "seconds": -Infinity}',
    '{"stage": "tiny/train", "seconds": true}',
    '{"stage": "tiny/train", "seconds": 1, "tokens": 1e400, "total_parameters": 2}',
    '{"stage": ["tiny/train"], "seconds": 1}',
    '{"stage": "tiny/train"}',
)
JOURNALS = [
    attempt
    for name, spoil in (
        *((f"journal of {line[:75]!r}", text(JOURNAL, f"{line}\n")) for line in LINES),
        ("a journal that leads out", link(JOURNAL)),
        ("a journal that is a device", link(JOURNAL, "/dev/zero")),
        ("a journal that is a FIFO", fifo(JOURNAL)),
        ("a scratch folder that leads out", link(".slmcompile")),
    )
    for attempt in (
        # A training run that is not up to date, of which the estimate asks the journal.
        Forged(f"plan: {name}", 0, ("plan", "tiny", "train.seed=7"), spoil),
        Forged(f"why: {name}", 0, ("why", "tiny/train"), spoil),
    )
]
OUTPUTS = [
    Forged(f"plan: {name}", 0, ("plan", "tiny", "train.seed=7"), spoil)
    for name, spoil in (
        ("a data report that is deep", shared("data", "data_report.json", BRACKETS)),
        ("a data report of many values", shared("data", "data_report.json", MANY)),
        (
            "a data report of other types",
            shared("data", "data_report.json", '{"counts": {}, "facts": {}}'),
        ),
        (
            "a data report that is a device",
            shared(
                "data",
                "data_report.json",
                lambda project, path: clear(
                    project.root / "outputs" / path.parent.name / path.name
                ).symlink_to("/dev/zero"),
            ),
        ),
        *(
            (
                f"a FIFO as {name}",
                shared(
                    kind,
                    name,
                    lambda project, path: os.mkfifo(
                        clear(project.root / "outputs" / path.parent.name / path.name)
                    ),
                ),
            )
            for kind, name in (("data", "data_report.json"), *(("base", name) for name in CONFIGS))
        ),
        ("outputs leads out", link("outputs")),
    )
]
FORGED = [*GENERATED, *SPECS, *METRIC, *JOURNALS, *OUTPUTS]
