"""Where the time of a training step goes, beside the least that each part of it could take.

Opens a base model and rows as the train stage does, makes steps with LoRA on all linear layers,
first without a profiler (tokens per CPU-second, share of the roofline), then with torch's (shares).

The floor of a part: its FLOPs over the rate of frozen products at the model's own shapes, or its
bytes over the bandwidth of a copy of an activation, both measured in the same run; of a pass over
activations the floor counts every tensor that must be read or written once forward and once
backward. The roofline is the FLOPs of all products over that rate.

    python benchmarks/train_profile.py BASE_FOLDER DATA_FOLDER --steps 12
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from roofline import (  # type: ignore[import-not-found, unused-ignore]
    ATTENTION,
    FROZEN,
    GATED,
    HEAD,
    NORM,
    OTHER,
    THIN,
    UPDATE,
    Floors,
    copy_rate,
    product_rate,
)

from slmcompile.data.store import read_split, write_split
from slmcompile.machine.process import prepare_to_compute, thread_count
from slmcompile.methods.lora import Lora, LoraTrain
from slmcompile.models.base_model import import_libraries
from slmcompile.training import whole_layer
from slmcompile.training.determinism import deterministic
from slmcompile.training.group import Group, Member, open_group

WARM_UP = 3
CPU = torch.device("cpu")

OUTSIDE = "Python, dispatch, waits"
GROUPS = (FROZEN, THIN, ATTENTION, NORM, GATED, OTHER, HEAD, UPDATE, OUTSIDE)

# By the name that torch's profiler gives an autograd function or a block, forward and backward.
_OWNERS = {
    "FusedRMSNorm": NORM,
    "FusedSwiGLU": GATED,
    "FrozenHeadLoss": HEAD,
    "attend": ATTENTION,
    "attend_backward": ATTENTION,
    "_Pad": ATTENTION,
    "_Unpad": ATTENTION,
    "update": UPDATE,
    "rms_norm": NORM,
    "rms_norm_backward": NORM,
}
_ATTENDING = ("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_softmax_backward_data")
_GATING = ("aten::silu", "aten::silu_backward", "aten::mul", "aten::mul_")
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::linear", "mkldnn::_linear_pointwise")


class _Named:
    """Has the profiler name the calls of a method."""

    def __init__(self, of: Any, method: str, name: str) -> None:
        whole = getattr(of, method)

        def named(*args: Any, **kwargs: Any) -> Any:
            with torch.profiler.record_function(name):
                return whole(*args, **kwargs)

        setattr(of, method, named)


def group_of(event: Any, rank: int) -> str:
    """Which part of a step an operator belongs to."""
    within, fed = event, False
    while within is not None:
        name = within.name.removeprefix("autograd::engine::evaluate_function: ")
        owner = _OWNERS.get(name.removesuffix("Backward"))
        if owner:
            return owner
        fed = fed or name.removesuffix("Backward") == "FeedForwardBlock"
        within = within.cpu_parent
    if event.name in _ATTENDING:
        return ATTENTION
    if event.name in _PRODUCTS:
        shapes = [shape for shape in event.input_shapes if len(shape) == 2]
        return THIN if any(_is_thin(shape, rank) for shape in shapes) else FROZEN
    return GATED if fed and event.name in _GATING else OTHER


def _is_thin(shape: list[int], rank: int) -> bool:
    return min(shape) <= 3 * rank


def opened(base: Path, rows: list[Any], config: LoraTrain) -> Group:
    """A session as the train stage opens it."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_split(data, "train", rows)
        write_split(data, "validation", rows[:1])
        member = Member("", config, data, Path(folder, "out"), Path(folder, "s"), "profile")
        return open_group([member], base, CPU)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="folder of the base model")
    parser.add_argument("data", type=Path, help="folder with train.parquet")
    parser.add_argument("--steps", type=int, default=12, help="timed without a profiler")
    parser.add_argument("--profiled", type=int, default=2, help="steps with one")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=thread_count("auto"))
    parser.add_argument("--operators", action="store_true", help="list them, too")
    args = parser.parse_args()

    import_libraries()
    rows = read_split(args.data, "train")
    config = LoraTrain(
        precision=args.precision,
        max_steps=WARM_UP + args.steps + args.profiled + 1,
        eval_steps=10**9,
        per_device_train_batch_size=args.batch,
        num_threads=args.threads,
        lora=Lora(r=args.rank, lora_alpha=2.0 * args.rank),
    )
    with deterministic(config.seed, args.threads, CPU):
        _profile(args, opened(args.base, rows, config), rows)


def _profile(args: argparse.Namespace, group: Group, rows: list[Any]) -> None:
    session = group.session
    learner = session.learners[0]
    for _ in range(WARM_UP):
        session.train_step()
    wall, cpu, state = [], [], learner.state
    before, trained_before = state.tokens, state.trained_tokens
    for _ in range(args.steps):
        tokens, begun, used = state.tokens, time.perf_counter(), time.process_time()
        session.train_step()
        tokens = state.tokens - tokens
        wall.append((time.perf_counter() - begun) / tokens)
        cpu.append((time.process_time() - used) / tokens)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    tokens = (state.tokens - before) / args.steps
    trained = (state.trained_tokens - trained_before) / args.steps
    square = args.batch * statistics.fmean(len(row.input_ids) ** 2 for row in rows)
    floors = Floors(group.model, tokens, trained, square)

    rate = product_rate(floors.weights, round(tokens))
    bandwidth = copy_rate(round(tokens), group.model.config.intermediate_size, group.model.dtype)
    least = {
        name: floors.flops.get(name, 0.0) / rate + floors.bytes.get(name, 0.0) / bandwidth
        for name in GROUPS
    }

    for name in ("attend", "attend_backward", "rms_norm", "rms_norm_backward"):
        _Named(whole_layer, name, name)
    _Named(learner, "step", "update")
    _Named(learner.weights, "collect_gradients", "update")
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
        begun = time.perf_counter()
        for _ in range(args.profiled):
            session.train_step()
        whole = (time.perf_counter() - begun) * 1e6
    spent: Counter[str] = Counter()
    operators: Counter[tuple[str, str, str]] = Counter()
    calls: Counter[tuple[str, str, str]] = Counter()
    for event in profile.events():
        name = group_of(event, args.rank)
        if not event.name.startswith("aten::") and not event.name.startswith("mkldnn::"):
            # Python of an autograd function, and what the engine does around it.
            name = OUTSIDE if event.name != "update" else name
        spent[name] += event.self_cpu_time_total
        shapes = str([s for s in event.input_shapes if s]) if name in {FROZEN, THIN} else ""
        operators[name, event.name, shapes] += event.self_cpu_time_total
        calls[name, event.name, shapes] += 1
    spent[OUTSIDE] += whole - sum(spent.values())

    speed = 1 / statistics.median(wall), 1 / statistics.median(cpu)
    roofline = rate * tokens / sum(floors.flops.values())
    print(
        f"{args.precision}, LoRA r {args.rank} on all linears, batch {args.batch}"
        f" ({tokens:.0f} tokens, {trained:.0f} trained), {args.threads} threads,"
        f" load {os.getloadavg()[0]:.1f}"
    )
    print(f"products {rate / 1e9:.0f} GFLOP/s, copies {bandwidth / 1e9:.1f} GB/s")
    print(
        f"{speed[0]:.0f} tokens/s ({max(1 / each for each in wall):.0f} in the best step),"
        f" {speed[1]:.0f} tokens per CPU-second, peak {peak:.2f} GB"
    )
    print(
        f"roofline {roofline:.0f} tokens/s: {speed[0] / roofline:.0%},"
        f" {speed[1] * args.threads / roofline:.0%} of it by CPU-seconds on {args.threads} threads"
    )
    print(f"{'':26}{'share':>7}{'ms/step':>9}{'floor':>8}{'× floor':>9}")
    for name in GROUPS:
        took, floor = spent[name] / args.profiled / 1e3, least[name] * 1e3
        times = f"{took / floor:9.1f}" if floor else f"{'–':>9}"
        print(f"{name:26}{spent[name] / whole:7.1%}{took:9.1f}{floor:8.1f}{times}")
    if args.operators:
        print()
        for (name, operator, shapes), took in operators.most_common(40):
            count = calls[name, operator, shapes] / args.profiled
            print(
                f"{took / args.profiled / 1e3:8.1f} ms {count:6.0f}× {name:26}{operator} {shapes}"
            )


if __name__ == "__main__":
    ready = "GOMP_SPINCOUNT" in os.environ
    prepare_to_compute()
    if not ready:
        # As a stage's process has it: read by the libraries of torch when they are loaded.
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()
