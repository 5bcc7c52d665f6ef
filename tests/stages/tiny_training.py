"""A tiny random Llama and a task it can learn in seconds on one thread.

The text says one of eight commands about one of ten things; the completion is the command's label
word and the stop token. A model that does not see the command has the label right one time in
eight.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, Row, write_split
from slmcompile.methods.keys import Train
from slmcompile.training.group import Member
from slmcompile.training.loop import train
from slmcompile.training.record import TrainingRecord, TrainRuntime

COMMANDS = {
    "turn on": "on",
    "turn off": "off",
    "open": "raise",
    "close": "lower",
    "lock": "secure",
    "unlock": "free",
    "play": "music",
    "stop": "silence",
}
THINGS = ("lamp", "door", "window", "radio", "blind", "gate", "heater", "screen", "fan", "oven")
ROOMS = ("kitchen", "garden", "office", "hall", "attic", "bedroom", "garage", "cellar")
END = "<end>"
CPU = torch.device("cpu")


def _texts(count: int, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        command = draw.choice(sorted(COMMANDS))
        words = f"{command} the {draw.choice(THINGS)}"
        if draw.random() < 0.5:
            words = f"please {words} in the {draw.choice(ROOMS)}"
        texts.append((f"{words} ->", f" {COMMANDS[command]}"))
    return texts


def make_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((p + c for p, c in _texts(400, 7)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token=END)


def make_base(folder: Path, **overrides: Any) -> Path:
    """A random-init Llama of about 0.1 million parameters in the hub's layout."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    settings = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        # With the usual 0.02 a tied head cannot say anything: logits are the product of a normed
        # hidden state (length 8) and an embedding of length 0.16, so LoRA alone cannot learn.
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**settings, **overrides}))
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(count: int, seed: int) -> list[Row]:
    tokenizer = make_tokenizer()
    rows = []
    for number, (prompt, completion) in enumerate(_texts(count, seed)):
        prompt_ids = tokenizer(prompt)["input_ids"]
        answer = tokenizer(completion + END)["input_ids"]
        rows.append(
            Row(
                id=number,
                prompt=prompt,
                completion=completion,
                label=completion.strip(),
                prompt_ids=prompt_ids,
                input_ids=prompt_ids + answer,
                labels=[IGNORED] * len(prompt_ids) + answer,
            )
        )
    return rows


def make_data(folder: Path, train: int = 400, validation: int = 80) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, "train", make_rows(train, 1))
    write_split(folder, "validation", make_rows(validation, 2))
    return folder


def run(
    config: Train, base: Path, data: Path, folder: Path, stop_at: int | None = None
) -> TrainingRecord:
    """Trains into ``folder/weights``; asked to stop at a step, it ends as a person's Ctrl-C."""
    out = folder / "weights"
    out.mkdir(parents=True, exist_ok=True)

    asked: list[int] = []

    def on_log(step: int, values: Mapping[str, float]) -> None:
        # Once, as a step may be logged twice and a second one ends the process; to this thread, as
        # another library's may take its time.
        if step == stop_at and not asked:
            asked.append(step)
            signal.raise_signal(signal.SIGTERM)

    member = Member("", config, data, out, folder / "scratch", "run-1")
    runtime = TrainRuntime(save_steps=4, logging_steps=1)
    return train(member, base, runtime, Silent(), on_log, CPU)
