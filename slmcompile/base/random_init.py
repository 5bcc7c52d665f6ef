"""A tiny Llama with random weights and a tokenizer trained on the spot.

For tests and trials of a recipe: every stage runs on it in seconds and nothing is downloaded.
The same seed and text give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmcompile.base.containment import contained, regular_file
from slmcompile.console.progress import Progress
from slmcompile.console.quiet import quiet
from slmcompile.sources.of_models.random import RandomModel

PAD, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_random(source: RandomModel, project: Path, out: Path, _progress: Progress) -> str:
    """Writes the model and its tokenizer into ``out``."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    key = "model.source.tokenizer_text"
    text = regular_file(contained(project, source.tokenizer_text, key), key)
    tokenizer = train_tokenizer(text, source.vocab_size, source.max_position_embeddings)
    ids = {
        "bos_token_id": tokenizer.convert_tokens_to_ids(START),
        "eos_token_id": tokenizer.convert_tokens_to_ids(STOP),
        "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
    }
    config = LlamaConfig(
        vocab_size=source.vocab_size,
        hidden_size=source.hidden_size,
        intermediate_size=source.intermediate_size,
        num_hidden_layers=source.num_hidden_layers,
        num_attention_heads=source.num_attention_heads,
        num_key_value_heads=source.num_key_value_heads,
        max_position_embeddings=source.max_position_embeddings,
        tie_word_embeddings=True,
        # 0.02, the default, bounds the logits of so narrow a frozen head to nearly uniform.
        initializer_range=0.2,
        dtype="float32",
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        model: Any = LlamaForCausalLM(config)
    with quiet():
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return f"random model over {source.tokenizer_text}"


def train_tokenizer(text: Path, vocab_size: int, max_length: int) -> Any:
    """A byte-level BPE of exactly the model's size or smaller, with ChatML's special tokens."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, STOP],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = text.read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator(lines, trainer)
    fast: Any = transformers.PreTrainedTokenizerFast
    wrapped = fast(tokenizer_object=tokenizer, bos_token=START, eos_token=STOP, pad_token=PAD)
    wrapped.model_max_length = max_length
    wrapped.chat_template = CHATML
    return wrapped
