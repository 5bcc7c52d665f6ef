"""What a float adapter beside an int4 base costs in decoding, and which operators it goes to.

Builds the base in the default int4, grafts places for adapters on all linear layers into its graph
and writes a random adapter. One stream decodes by turns without places (which is the speed of a
merged int4 model), with the adapter in them, and with none; medians over the rounds, of wall time
and of CPU time, idle threads not spinning in the latter. Then onnxruntime profiles a decoding step.

    python benchmarks/adapters_beside.py outputs/base-4e59912e --rank 16 --tokens 64 --rounds 9
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slmcompile.base.facts import read_model_facts
from slmcompile.export.adapter_inputs import graft
from slmcompile.export.genai_builder import build
from slmcompile.facts.architecture import architecture
from slmcompile.inference import onnx_model
from slmcompile.machine.device import cpu_name
from slmcompile.models.adapter_file import write_adapter_file
from slmcompile.models.low_rank import LowRank
from slmcompile.providers.cpu import CpuTarget

PROMPT = list(range(100, 148))
PLAIN, WITH, WITHOUT = "int4", "with an adapter", "places, none set"


def linears(base: Path) -> Mapping[str, tuple[int, int]]:
    """[out, in] by name."""
    facts = read_model_facts(base, base.name)
    if facts is None:
        raise SystemExit(f"{base}: no base model")
    return architecture(facts.config, facts.tensors, facts.dtypes).linears


def drawn(modules: Mapping[str, tuple[int, int]], rank: int) -> dict[str, LowRank]:
    """A random adapter on all of them."""
    draw = np.random.default_rng(0)

    def matrix(*shape: int) -> Any:
        return (0.02 * draw.standard_normal(shape)).astype(np.float32)

    return {
        n: LowRank(matrix(rank, width), matrix(rows, rank)) for n, (rows, width) in modules.items()
    }


def decoded(model: onnx_model.OnnxModel, tokens: int) -> tuple[float, float]:
    """Wall and CPU milliseconds a token."""
    stream = model.stream(PROMPT, tokens + 1)
    next(stream)
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in stream)
    took = time.perf_counter() - wall, time.process_time() - cpu
    return 1e3 * took[0] / count, 1e3 * took[1] / count


def timed(
    folders: Mapping[str, tuple[Path, Path | None]], asked: argparse.Namespace, *, spinning: bool
) -> dict[str, tuple[float, float]]:
    """Medians of ``decoded`` by turns, of each folder."""
    models = {
        name: onnx_model.load(folder, asked.threads, spinning=spinning, adapter=adapter)
        for name, (folder, adapter) in folders.items()
    }
    for model in models.values():
        model._stops = frozenset()
        decoded(model, 8)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(asked.rounds):
        for name, model in models.items():
            found[name].append(decoded(model, asked.tokens))
    return {
        name: (statistics.median(w for w, _ in times), statistics.median(c for _, c in times))
        for name, times in found.items()
    }


def profiled(folder: Path, threads: int, steps: int) -> dict[tuple[bool, str], float]:
    """Milliseconds a decoding step by operator, of the adapter's nodes and of the others."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    past = len(PROMPT)
    described = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    size = described["model"]["decoder"]["head_size"]
    feeds: dict[str, Any] = {
        "input_ids": np.full((1, 1), PROMPT[0]),
        "attention_mask": np.ones((1, past + 1), np.int64),
    }
    for each in session.get_inputs():
        if each.name.startswith("past"):
            feeds[each.name] = np.zeros((1, each.shape[1], past, size), np.float32)
    for _ in range(steps):
        session.run(["logits"], feeds)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[tuple[bool, str], float] = defaultdict(float)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            beside = event["name"].startswith("/adapter")
            spent[beside, event["args"]["op_name"]] += event["dur"] / 1e3 / steps
    return spent


def main() -> None:
    """Builds, decodes by turns and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    modules = linears(asked.base)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        plain, free, by_itself = (root / name for name in ("plain", "free", "default"))
        for folder in (plain, free, by_itself):
            folder.mkdir()
        build(CpuTarget(precision="int4"), asked.base, plain, root / "cache")
        adapter, file = drawn(modules, asked.rank), root / "adapter.onnx_adapter"
        write_adapter_file(adapter, graft(plain, modules, modules, free), file)
        graft(plain, modules, modules, by_itself, adapter)
        size = sum(path.stat().st_size for path in plain.glob("model.onnx*")) / 1e6
        print(
            f"{cpu_name()}, {asked.threads} threads, load {os.getloadavg()[0]:.1f}; int4"
            f" {size:.0f} MB, adapter of rank {asked.rank} {file.stat().st_size / 1e6:.0f} MB;"
            f" {asked.rounds} rounds of {asked.tokens} tokens"
        )
        folders = {PLAIN: (plain, None), WITH: (free, file), WITHOUT: (free, None)}
        walls, cpus = (timed(folders, asked, spinning=spinning) for spinning in (True, False))
        for name in folders:
            wall, cpu = walls[name][0], cpus[name][1]
            print(
                f"{name:18}{1e3 / wall:7.1f} tokens/s {walls[PLAIN][0] / wall:5.2f} of int4's;"
                f" {cpu:6.2f} CPU-ms a token, {cpus[PLAIN][1] / cpu:5.2f}"
            )
        spent = profiled(by_itself, asked.threads, 100)
        whole = sum(spent.values())
        for (beside, operator), part in sorted(spent.items(), key=lambda item: -item[1]):
            if beside or part > whole / 100:
                of = "adapter" if beside else "base"
                print(f"  {of:8}{operator:36}{part:7.3f} ms {part / whole:6.1%}")
        part = sum(each for (beside, _), each in spent.items() if beside)
        print(f"  the adapter's nodes: {part / whole:.1%} of the time in kernels")


if __name__ == "__main__":
    main()
