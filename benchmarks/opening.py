"""What an application pays to open exported folders: seconds to the first answer, memory, speed.

All folders are opened in one process, and all adapters that stand beside a base; every adapter, or
every folder, is then asked for a token. Seconds count from before the first folder to behind that,
without imports; memory is the process's largest resident size until then. Speed is that of the last
one, a prompt at a time.

    python benchmarks/opening.py outputs/quickstart/export-cpu-int4
    python benchmarks/opening.py outputs/assistant/export-cpu-int4 --adapters intents titles tone
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from slmcompile.plans.artifacts import adapter_file

PROMPT, TIMED = 24, 96
"""Tokens of the prompt, and tokens decoded behind it to measure speed."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Shipped:
    """What an application opens to have all adapters: folders, and adapters beside one's base."""

    folders: Sequence[Path]
    adapters: Sequence[str] = ()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = (path for folder in self.folders for path in folder.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)


@dataclass(frozen=True)
class Opened:
    """What it took."""

    seconds: float
    peak_bytes: float
    tokens_per_second: float


def open_here(shipped: Shipped) -> Opened:
    """Opens all of it in this process."""
    import onnxruntime_genai as og

    began = time.perf_counter()
    kept: list[Any] = []
    for folder in shipped.folders:
        model = og.Model(str(folder))
        prompt = [int(token) for token in og.Tokenizer(model).encode("turn on the light " * PROMPT)]
        adapters: Any = og.Adapters(model) if shipped.adapters else None
        for name in shipped.adapters:
            adapters.load(str(folder / adapter_file(name)), name)
        names = shipped.adapters or ("",)
        kept += [model, *(_answering(model, prompt[:PROMPT], adapters, each) for each in names)]
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    generator, count, began = kept[-1], 0, time.perf_counter()
    while not generator.is_done():
        generator.generate_next_token()
        count += 1
    return Opened(seconds, peak, count / (time.perf_counter() - began))


def _answering(model: Any, prompt: Sequence[int], adapters: Any, name: str) -> Any:
    """A generator that has written its first token and that no stop token ends early."""
    import onnxruntime_genai as og

    length = len(prompt) + 1 + TIMED
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=length, min_length=length)
    generator = og.Generator(model, params)
    if name:
        generator.set_active_adapter(adapters, name)
    generator.append_tokens(list(prompt))
    generator.generate_next_token()
    return generator


def opened_apart(ships: Mapping[Key, Shipped], rounds: int) -> dict[Key, Opened]:
    """Each in processes of its own, which take turns; medians of the rounds."""
    found: dict[Key, list[Opened]] = {key: [] for key in ships}
    for _ in range(rounds):
        for key, each in ships.items():
            command = [sys.executable, __file__, *map(str, each.folders)]
            command += ["--adapters", *each.adapters] if each.adapters else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[key].append(Opened(**json.loads(done.stdout.splitlines()[-1])))
    return {
        key: Opened(*map(statistics.median, zip(*map(astuple, rows), strict=True)))
        for key, rows in found.items()
    }


def main() -> None:
    """Opens what is named and prints figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--adapters", nargs="+", default=())
    asked = parser.parse_args()
    print(json.dumps(asdict(open_here(Shipped(asked.folders, asked.adapters)))))


if __name__ == "__main__":
    main()
