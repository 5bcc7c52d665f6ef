"""``run.mjs``: the same short program for Node, by onnxruntime-node and a tokenizer in JavaScript.

It decodes by itself: a graph that takes ids, a mask and the keys and values of earlier tokens, and
nothing else, is asked token by token. Only for the CPU, and for prompts that a text fills.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slmcompile.plans.artifacts import prompt_file
from slmcompile.release.programs import MAX_NEW_TOKENS, Asked, usage

RUN_MJS = "run.mjs"
INSTALL = "npm install --ignore-scripts onnxruntime-node @huggingface/tokenizers"
_INPUTS = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "past_key_names": "past_key_values.%d.key",
    "past_value_names": "past_key_values.%d.value",
}
_OUTPUTS = {
    "logits": "logits",
    "present_key_names": "present.%d.key",
    "present_value_names": "present.%d.value",
}


def runs_in_node(provider: str, asked: Asked) -> bool:
    """Whether the program can ask an export."""
    decoder: Mapping[str, Any] = asked.model.get("decoder", {})
    return (
        provider == "cpu"
        and bool(asked.columns)
        and not asked.adapter
        and decoder.get("inputs") == _INPUTS
        and decoder.get("outputs") == _OUTPUTS
    )


def run_mjs(asked: Asked) -> str:
    """The program."""
    stops = asked.model["eos_token_id"]
    ends = [stops] if isinstance(stops, int) else list(stops)
    decoder = asked.model["decoder"]
    count, prefix = len(asked.columns), asked.prefix
    words = "process.argv.slice(2)"
    given = f'[{words}.join(" ")]' if count == 1 else words
    parts = [text if name is None else asked.columns.index(name) for text, name in asked.parts]
    lines = [
        f"// {_ascii(usage(asked, 'node run.mjs'))}    (after: {INSTALL})",
        'import { readFileSync } from "node:fs";',
        'import { fileURLToPath } from "node:url";',
        'import ort from "onnxruntime-node";',
        'import { Tokenizer } from "@huggingface/tokenizers";',
        "",
        "const path = (name) => fileURLToPath(new URL(name, import.meta.url));",
        'const json = (name) => JSON.parse(readFileSync(path(name), "utf8"));',
        f"const values = {given};",
        f"if (values.length !== {count} || !values[0])"
        f" throw new Error({_ascii(usage(asked, 'node run.mjs'))});",
        'let prompt = "", typed = [];',
        f"for (const part of {_ascii(parts)}) {{",
        "  const text = typeof part === 'number' ? values[part] : part;",
        "  if (text !== part) typed.push([prompt.length, prompt.length + text.length]);",
        "  prompt += text;",
        "}",
        *_cut(asked),
        "",
        'const tokenizer = new Tokenizer(json("tokenizer.json"), json("tokenizer_config.json"));',
        "let ids = pieces.flatMap("
        "(piece) => tokenizer.encode(piece, { add_special_tokens: false }).ids);",
        *(
            [
                f"if (ids.slice(0, {len(prefix)}).join() !== {_ascii(prefix)}.join())"
                f" ids = [...{_ascii(prefix)}, ...ids];"
            ]
            if prefix
            else []
        ),
        'const model = await ort.InferenceSession.create(path("model.onnx"),'
        " { logSeverityLevel: 3 });",
        'const int64 = (list) => new ort.Tensor("int64",'
        " BigInt64Array.from(list, BigInt), [1, list.length]);",
        "let past = {};",
        "for (const { name, type } of model.inputMetadata)",
        '  if (name.startsWith("past_")) past[name] = new ort.Tensor(type, [],'
        f" [1, {int(decoder['num_key_value_heads'])}, 0, {int(decoder['head_size'])}]);",
        "const answer = [];",
        f"for (let seen = ids.length; answer.length < {MAX_NEW_TOKENS}"
        f" && seen < {int(asked.model['context_length'])}; seen++) {{",
        "  const out = await model.run({"
        " input_ids: int64(ids), attention_mask: int64(Array(seen).fill(1)), ...past });",
        "  const last = out.logits.data.subarray(-out.logits.dims[2]);",
        "  const next = last.reduce((best, score, at) => (score > last[best] ? at : best), 0);",
        f"  if ({_ascii(ends)}.includes(next)) break;",
        "  answer.push(next);",
        '  for (const name in past) past[name] = out[name.replace("past_key_values", "present")];',
        "  ids = [next];",
        "}",
        "console.log(tokenizer.decode(answer));",
    ]
    return "\n".join(lines) + "\n"


def _cut(asked: Asked) -> list[str]:
    """Lines that make ``pieces`` of a prompt, by the rule of ``data/control_tokens.py``."""
    if not asked.controlled:
        return ["const pieces = [prompt];"]
    return [
        "// Where a text spells a control token the prompt is cut, so that it stays text.",
        f"const cuts = new Set(), controls = Object.keys(json({_ascii(prompt_file())})"
        ".control_tokens);",
        "for (const [begin, end] of typed)",
        "  for (let at = begin; at < end; at++)",
        "    if (controls.some((token) => prompt.startsWith(token, at))) cuts.add(at + 1);",
        "const borders = [0, ...cuts, prompt.length];",
        "const pieces = borders.slice(1).map((end, at) => prompt.slice(borders[at], end))"
        ".filter(Boolean);",
    ]


def _ascii(value: Any) -> str:
    """A literal of JavaScript, in which nothing ends a line."""
    return json.dumps(value)
