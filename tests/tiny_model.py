"""A tiny random base model, a random adapter and rows over them: what the stages' tests run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.base.fetch import fetch
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, Row
from slmcompile.sources.of_models.random import RandomModel
from tests.tiny_tokenizer import TEXT

COMMANDS = (
    "turn on the kitchen light",
    "turn off the lamp",
    "set the heating to  20 degrees",
    "what is the weather like in the office today",
    "close the garage door",
    "play",
    "turn off the bedroom lamp please",
    "set it to\n\n7",
)


def make_base(folder: Path, **sizes: int) -> Path:
    """A base-model folder under ``folder``; ``sizes`` are keys of ``RandomModel``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    out = folder / "base"
    out.mkdir()
    source = RandomModel(type="random", tokenizer_text="text.txt", vocab_size=320, **sizes)
    fetch(source, folder, out, Silent())
    return out


def make_adapter(base: Path, folder: Path, *, scale: float = 0.1) -> Path:
    """A LoRA adapter whose two factors are random, so that merging it changes every layer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=scale)
    model.save_pretrained(folder)
    return folder


def make_rows(base: Path) -> list[Row]:
    """Chat rows over ``COMMANDS``, of several prompt lengths, some lengths shared."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    rows = []
    for number, command in enumerate((*COMMANDS, *COMMANDS[:3])):
        prompt = f"<|im_start|>user\n{command}<|im_end|>\n<|im_start|>assistant\n"
        completion = f'{{"intent": "turn_on", "level": {number}}}'
        prompt_ids, answer = ids(prompt), ids(completion + "<|im_end|>")
        labels = [IGNORED] * len(prompt_ids) + answer
        rows.append(
            Row(number, prompt, completion, "turn_on", prompt_ids, prompt_ids + answer, labels)
        )
    return rows
