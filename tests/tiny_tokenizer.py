"""A small byte-level BPE tokenizer in a folder, as a base model's folder holds one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of most small instruct models."""

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a test.<|im_end|>\n' }}{% endif %}" + CHATML
)
"""As SmolLM2's: a system turn is written where none is given."""

GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As Gemma's: writes BOS, trims, and closes turns with a token that is not the EOS token."""

REASONING = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- set last = namespace(user=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and loop.index0 > last.user %}
{{- '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}
{%- endif %}
{{- m.content or '' }}
{%- for call in m.tool_calls or [] %}
{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"""
"""As Qwen 3's: offers tools, writes calls and reasoning, of earlier turns the answers alone."""

TEXT = """turn on the kitchen light turn off the bedroom lamp please set the living room heating
to twenty degrees what is the weather like close the garage door play some music in the office
{"intent": "turn_on", "name": "kitchen light"} {"intent": "turn_off", "name": "lamp", "level": 20}
user assistant system yes no on off"""


def make_tokenizer(
    folder: Path,
    *,
    chat_template: str | None = CHATML,
    pad_is_eos: bool = False,
    adds_bos_and_eos: bool = False,
    more: Sequence[str] = (),
) -> Path:
    """Writes tokenizer.json and tokenizer_config.json into ``folder`` and returns it.

    Args:
        folder: made if need be.
        chat_template: Jinja text, or None for a model without one.
        pad_is_eos: the padding token is the end-of-sequence token too, as in SmolLM2.
        more: further tokens that are not special (``<think>`` of Qwen 3).
        adds_bos_and_eos: the tokenizer itself wraps every text, as T5's and some Llamas' do.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<end_of_turn>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_tokens(list(more))
    if adds_bos_and_eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A <|im_end|>",
            special_tokens=[
                (token, tokenizer.token_to_id(token)) for token in ("<|endoftext|>", "<|im_end|>")
            ],
        )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>" if pad_is_eos else "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
