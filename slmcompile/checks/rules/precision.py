"""Check 9: the arithmetic that the recipe asks for is native to the processor."""

from __future__ import annotations

from slmcompile.checks.registry import Verdict, check, needs_probe, proved, refuted
from slmcompile.facts.context import CheckContext
from slmcompile.methods.qlora import QLoraTrain
from slmcompile.recipe.schema import Recipe

_NATIVE = {"bf16": ("amx_bf16", "avx512_bf16", "bf16")}
"""CPU flags of which one makes a precision native: Intel AMX, AVX-512 BF16 (also of AMD), Armv8.6.
A precision that is not named here is native to every CPU."""

_TIMES_SLOWER = 9
"""Measured: 9.9 against 88 GFLOP a CPU-second for [512, 576] · [576, 1536], torch 2.13, AVX2."""

_NAMES = {"bfloat16": "bf16", "float32": "fp32"}


@check(
    9,
    "native-precision",
    "a precision that the processor only emulates makes training many times slower",
    warning=True,
)
def native_precision(context: CheckContext) -> Verdict:
    """Judged by the processor's own flags: libraries say yes to what they emulate.

    Only a warning: the numbers are the same, and another machine may run the recipe. Attention is
    transformers' own for the family, which has a form for every CPU.
    """
    flags = context.device.cpu_flags
    seen: list[str] = []
    for key, precision in _arithmetic(context.recipe):
        wanted = _NATIVE.get(precision, ())
        found = sorted(flags.intersection(wanted))
        if wanted and not found:
            if not flags:
                unknown = f"this machine does not list what its CPU can do, so {precision} is slow"
                return needs_probe(f"{context.name}/train", f"{unknown} or native")
            return refuted(
                f"{precision} is emulated on this CPU (no {' or '.join(wanted[:2])}):"
                f" about {_TIMES_SLOWER} times slower than fp32 where it was measured",
                f"set {key}={'float32' if key.endswith('dtype') else 'fp32'} (more memory),"
                " or train on a CPU with one of these",
                context.at(key),
            )
        seen.append(f"{precision} is native ({found[0]})" if found else f"{precision} everywhere")
    return proved(", ".join(dict.fromkeys(seen)))


def _arithmetic(recipe: Recipe) -> list[tuple[str, str]]:
    """Each key that decides what is multiplied in which precision."""
    train = recipe.train
    pairs: list[tuple[str, str]] = [("train.precision", train.precision)]
    if isinstance(train, QLoraTrain) and train.quantization.bnb_4bit_compute_dtype:
        stated = train.quantization.bnb_4bit_compute_dtype
        pairs.append(("train.quantization.bnb_4bit_compute_dtype", _NAMES[stated]))
    return pairs
