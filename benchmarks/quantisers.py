"""Ways to round one trained model's matrices to 4 bits, by what they leave of its likelihood.

Those of the model builder (rtn with and without zero points, k-quant) beside HQQ (Badri and Shaji,
2023) and GPTQ (Frantar et al., arXiv:2210.17323), by the code that onnxruntime ships of both, the
latter being neural-compressor's. Takes a project in which a recipe's adapter is trained and merged;
every matrix, the tied head too, is rounded and put back, and torch reads all test rows in fp32. So
what is compared is rounding alone. Bits count scales (fp32) and zero points (4 bits; HQQ's are
fp32, as its own are no integers). GPTQ sees the inputs of 128 rows of training.

    python benchmarks/quantisers.py PROJECT RECIPE [--data FOLDER] [--only hqq-32 ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quantisation_frontier import Trained  # type: ignore[import-not-found, unused-ignore]

from slmcompile.data.store import Row, read_split
from slmcompile.export.probe import linears_of
from slmcompile.export.rounding import rounded
from slmcompile.inference.torch_model import TorchModel
from slmcompile.models.merge import load_merged

CALIBRATION_ROWS = 128
Rounding = Callable[[str, torch.Tensor], torch.Tensor]


def nll(model: Any, rows: Sequence[Row]) -> float:
    """Nats a token of the rows' references."""
    scored = TorchModel(model, frozenset()).log_likelihood(rows)
    return -sum(total for total, _ in scored) / sum(count for _, count in scored)


def symmetric(block: int) -> Rounding:
    """Without zero points, as the builder's default: 16 steps, the outermost at -8."""

    def of(_name: str, weight: torch.Tensor) -> torch.Tensor:
        blocks = weight.unflatten(1, (-1, block))
        furthest = blocks.gather(2, blocks.abs().argmax(2, keepdim=True))
        scale = furthest / -8
        steps = torch.where(scale == 0, 0, blocks / scale).round().clamp(-8, 7)
        return (steps * scale).flatten(1)

    return of


def hqq(block: int) -> Rounding:
    """Half-quadratic quantization, by onnxruntime's copy of the authors' own."""
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizer

    found = quantizer.HQQWeightOnlyQuantizer(quantizer.HQQWeightOnlyQuantConfig(block_size=block))

    def of(_name: str, weight: torch.Tensor) -> torch.Tensor:
        steps, scale, zero = found.quantize_internal(weight, group_size=block)
        back = steps.unflatten(1, (-1, block)).float() - zero[:, :, None]
        return (back * scale[:, :, None]).flatten(1)

    return of


def gptq(block: int, products: Mapping[str, torch.Tensor], *, mse: bool) -> Rounding:
    """GPTQ, by onnxruntime's copy of neural-compressor's."""
    from onnxruntime.quantization.neural_compressor.weight_only import gptq as run

    def of(name: str, weight: torch.Tensor) -> torch.Tensor:
        found = run(
            weight.T.numpy().copy(), products[name].double().numpy().copy(),
            group_size=block, mse=mse,
        )  # fmt: skip
        return torch.from_numpy(np.ascontiguousarray(found.T)).float()

    return of


def inputs_of(model: Any, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Sums of x xᵀ over the tokens that come into each linear layer, [in, in]."""
    sums: dict[str, torch.Tensor] = {}

    def add(name: str) -> Callable[..., None]:
        def hook(_module: Any, given: tuple[torch.Tensor, ...], _out: Any) -> None:
            x = given[0].flatten(0, -2).float()
            sums[name] = sums.get(name, 0) + x.T @ x

        return hook

    hooks = [each.register_forward_hook(add(name)) for name, each in linears_of(model).items()]
    with torch.inference_mode():
        for row in rows:
            model(input_ids=torch.tensor([row.input_ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return sums


@contextmanager
def rounding(model: Any, by: Rounding) -> Iterator[float]:
    """All matrices rounded, and put back behind it; gives the relative error of all together."""
    kept = {name: each.weight.detach().clone() for name, each in linears_of(model).items()}
    off = size = 0.0
    for name, each in linears_of(model).items():
        found = by(name, kept[name])
        off += float((found - kept[name]).double().square().sum())
        size += float(kept[name].double().square().sum())
        each.weight.data.copy_(found)
    yield (off / size) ** 0.5
    for name, each in linears_of(model).items():
        each.weight.data.copy_(kept[name])


def main() -> None:
    """Rounds, reads and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    trained = Trained.of(given.project.resolve(), given.recipe, given.data)
    model = load_merged(trained.base, trained.weights).float().eval()
    rows = read_split(trained.data, "test")
    learnt = read_split(trained.data, "train")
    learnt = learnt[:: max(1, len(learnt) // CALIBRATION_ROWS)][:CALIBRATION_ROWS]
    products = inputs_of(model, learnt)
    ways: dict[str, tuple[float, Rounding]] = {
        "rtn, no zero points, 32": (4 + 32 / 32, symmetric(32)),
        "rtn, 32": (4 + 36 / 32, lambda _n, w: rounded(w, 4, 32, "rtn")),
        "k_quant, 32": (4 + 36 / 32, lambda _n, w: rounded(w, 4, 32, "k_quant")),
        "k_quant, 64": (4 + 36 / 64, lambda _n, w: rounded(w, 4, 64, "k_quant")),
        "hqq, 32": (4 + 64 / 32, hqq(32)),
        "hqq, 64": (4 + 64 / 64, hqq(64)),
        "gptq, 32": (4 + 36 / 32, gptq(32, products, mse=False)),
        "gptq with mse, 32": (4 + 36 / 32, gptq(32, products, mse=True)),
        "gptq, 64": (4 + 36 / 64, gptq(64, products, mse=False)),
    }
    print(f"{len(rows)} test rows; as trained: {nll(model, rows):.5f} nats a token", flush=True)
    print("| | bits a weight | error of the weights | nats a token | CPU-s |\n|--|--:|--:|--:|--:|")
    for name, (bits, by) in ways.items():
        if given.only and name not in given.only:
            continue
        began = time.process_time()
        with rounding(model, by) as error:
            took = time.process_time() - began
            found = nll(model, rows)
        print(f"| {name} | {bits:.3f} | {error:.4f} | {found:.5f} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
