"""What a vocabulary of 151,936 (Qwen's) costs a training step in memory, and what it would cost.

A model of random weights and a narrow hidden state, so that nothing but the head and its loss can
weigh; LoRA over it, one forward and backward pass of a batch. Each form runs in a process of its
own: the loss by chunks of trained positions that training has, and the logits of every position
with torch's cross entropy, as transformers' own loss has them.

    python benchmarks/large_vocabulary.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from slmcompile.data.store import IGNORED, Row
from slmcompile.machine.process import prepare_to_compute
from slmcompile.methods.lora import Lora
from slmcompile.models.adapter import attach
from slmcompile.training import hot_path
from slmcompile.training.batches import MicroBatch, collate
from slmcompile.training.layout import Layout
from slmcompile.training.loss import TrainedPositionLoss

CPU = torch.device("cpu")


def peak() -> float:
    """Most memory that the process has had, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(form: str, args: argparse.Namespace) -> None:
    """Prints one line."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocabulary, hidden_size=args.hidden, intermediate_size=2 * args.hidden,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = attach(LlamaForCausalLM(config).to(torch.bfloat16), Lora(r=8)).to(torch.bfloat16)
    inner = model.get_base_model().train()
    ids = torch.randint(1, args.vocabulary, (args.rows, args.length)).tolist()
    prompt = args.length // 2
    rows = [
        Row(number, "", "", "", row[:prompt], row, [IGNORED] * prompt + row[prompt:])
        for number, row in enumerate(ids)
    ]
    batch = collate([MicroBatch("", rows)], CPU)
    opened, used = peak(), time.process_time()
    if form == "chunks":
        layout = Layout()
        hot_path.install(inner, layout, {"": "default"})
        loss = TrainedPositionLoss(inner, CPU)
        with layout.of(batch):
            found = loss(batch).mean()
            found.backward()
    else:
        labels = torch.tensor([row.labels for row in rows])
        found = inner(input_ids=torch.tensor(ids), labels=labels, use_cache=False).loss
        found.backward()
    print(
        f"{form:8} loss {found.item():.4f}, {time.process_time() - used:5.1f} CPU-seconds,"
        f" peak {peak():.2f} GB, {peak() - opened:.2f} GB above the model"
    )


def main() -> None:
    """Runs each form in a process and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--form", choices=("chunks", "whole"))
    args = parser.parse_args()
    if args.form:
        measure(args.form, args)
        return
    tokens = args.rows * args.length
    print(
        f"{args.vocabulary} tokens in the vocabulary, {tokens} in the batch, half of them trained:"
        f" logits of all in fp32 are {4e-9 * tokens * args.vocabulary:.2f} GB"
    )
    for form in ("chunks", "whole"):
        subprocess.run([sys.executable, *sys.argv, "--form", form], check=True)


if __name__ == "__main__":
    prepare_to_compute()
    main()
