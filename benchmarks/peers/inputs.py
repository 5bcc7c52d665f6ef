"""The files every tool is given: base models, rows. Made by slmcompile's random source.

Defects that lie in a file rather than in a configuration are made here, each in a copy of its own.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path

from slmcompile.base.fetch import fetch
from slmcompile.console.progress import Silent
from slmcompile.sources.of_models.random import RandomModel

TEXT = """please turn on the lamp in the kitchen and tell me when it is done
{"intent":"on","name":"lamp","number":7}
user assistant model system number"""

# An answer's header that the generation prompt does not have.
TWO_HEADERS = (
    "{% for message in messages %}{{ '<|im_start|>' + "
    "('model' if message['role'] == 'assistant' else message['role'])"
    " + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OPEN_LOOP = "{% for message in messages %}{{ message['role'] + '\n' + message['content'] }}"


def make_inputs(folder: Path, memory: int) -> None:
    """Writes the base models and the rows into ``folder``.

    Args:
        folder: made anew.
        memory: bytes that a run may have; the large base has a tenth more.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    base = folder / "base"
    base.mkdir()
    source = RandomModel(
        type="random", tokenizer_text="text.txt", vocab_size=320, max_position_embeddings=512
    )
    fetch(source, folder, base, Silent())
    for name, template in (("base-two-headers", TWO_HEADERS), ("base-open-loop", OPEN_LOOP)):
        shutil.copytree(base, folder / name)
        (folder / name / "chat_template.jinja").write_text(template, encoding="utf-8")
    shutil.copytree(base, folder / "base-too-large")
    _enlarge(folder / "base-too-large", memory + memory // 10)
    _write_rows(folder / "rows.jsonl", "messages")
    _write_rows(folder / "rows-without-messages.jsonl", "conversation")


def _write_rows(path: Path, column: str) -> None:
    """Forty conversations of one long question and one short answer."""
    question = "please turn on the lamp number {n} in the kitchen and tell me when it is done. "
    rows = [
        {
            column: [
                {"role": "user", "content": question.format(n=number) * 8},
                {"role": "assistant", "content": f'{{"intent":"on","number":{number}}}'},
            ]
        }
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _enlarge(folder: Path, size: int) -> None:
    """Gives the model as many wide layers as ``size`` bytes hold, all zeros in a sparse file."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    hidden, inner, heads, key_heads = 4096, 8192, 32, 8
    keys = hidden // heads * key_heads
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    layers = 0
    while sum(4 * math.prod(shape) for shape in shapes.values()) < size:
        prefix = f"model.layers.{layers}"
        shapes |= {
            f"{prefix}.self_attn.q_proj.weight": (hidden, hidden),
            f"{prefix}.self_attn.k_proj.weight": (keys, hidden),
            f"{prefix}.self_attn.v_proj.weight": (keys, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, hidden),
            f"{prefix}.mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}.mlp.up_proj.weight": (inner, hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, inner),
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
        }
        layers += 1
    config |= {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": hidden // heads,
        "num_hidden_layers": layers,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_zeros(folder / "model.safetensors", shapes)


def _write_zeros(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of fp32 zeros that takes no room on the disk."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
