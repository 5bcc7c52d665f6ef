"""How an export is run without slmcompile, in the words of its own runtime: one function a runtime.

The prompt is spelt out as the model was trained on it. Which function is whose, a provider says.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.data.template import parse


@dataclass(frozen=True)
class Ask:
    """What a model is asked in a card.

    Attributes:
        prompt: content of ``prompt.json``.
        values: of the prompt's columns; None where only the chat template can write a prompt.
        whole: the prompt, with these values in it.
        folder: the export's.
        adapter: file of an adapter in it; empty where there is none.
        name: what the model, or the adapter in it, is called.
        longest: tokens of an answer.
    """

    prompt: Mapping[str, Any]
    values: Mapping[str, str] | None
    whole: str
    folder: str
    adapter: str
    name: str
    longest: int


@dataclass(frozen=True)
class Snippet:
    """A program or commands, with a sentence before them.

    Attributes:
        lead: the sentence.
        text: the program.
        language: what it is written in.
        keeps_text: whether a control token that a value spells stays text.
    """

    lead: str
    text: str
    language: str
    keeps_text: bool = False


def genai(ask: Ask) -> Snippet:
    """onnxruntime-genai."""
    prefix = "".join(f"{token}, " for token in prefix_ids(ask.prompt))
    tokens = f"[{prefix}*tokenizer.encode(prompt)]" if prefix else "tokenizer.encode(prompt)"
    load = choose = ""
    if ask.adapter:
        file = f"{ask.folder}/{ask.adapter}"
        load = f"adapters = og.Adapters(model)\nadapters.load({file!r}, {ask.name!r})\n"
        choose = f"generator.set_active_adapter(adapters, {ask.name!r})\n"
    text = f"""import onnxruntime_genai as og

model = og.Model({ask.folder!r})
{load}tokenizer = og.Tokenizer(model)
{_spelt(ask)}
tokens = {tokens}

params = og.GeneratorParams(model)
params.set_search_options(do_sample=False, max_length=len(tokens) + {ask.longest})
generator = og.Generator(model, params)
{choose}generator.append_tokens(tokens)
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
print()"""
    return Snippet("From Python, without slmcompile:", text, "python")


def transformers(ask: Ask) -> Snippet:
    """Transformers."""
    prefix = "".join(f"{token}, " for token in prefix_ids(ask.prompt))
    encoded = "tokenizer.encode(prompt, add_special_tokens=False)"
    text = f"""import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({ask.folder!r}, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained({ask.folder!r})
{_spelt(ask)}
tokens = torch.tensor([{f"[{prefix}*{encoded}]" if prefix else encoded}])

answer = model.generate(tokens, max_new_tokens={ask.longest}, do_sample=False)
print(tokenizer.decode(answer[0, tokens.shape[1] :], skip_special_tokens=True))"""
    return Snippet("From Python, without slmcompile:", text, "python")


def qnn(ask: Ask) -> Snippet:
    """Onnxruntime with its QNN provider, over both graphs of the folder.

    Without the processor the provider simulates it, which takes seconds for a token.
    """
    prefix = "".join(f"{token}, " for token in prefix_ids(ask.prompt))
    encoded = "tokenizer.encode(prompt, add_special_tokens=False).ids"
    text = f"""import json

import numpy as np
import onnxruntime as ort
import onnxruntime_qnn
from tokenizers import Tokenizer

folder = {ask.folder!r}
told = json.load(open(f"{{folder}}/qnn.json"))
provider = "QNNExecutionProvider"
ort.register_execution_provider_library(provider, onnxruntime_qnn.get_library_path())
devices = [each for each in ort.get_ep_devices() if each.ep_name == provider][:1]
settings = {{"backend_type": "htp", "htp_arch": str(told["htp_arch"])}}


def opened(name):
    options = ort.SessionOptions()
    options.add_provider_for_devices(devices, settings)
    return ort.InferenceSession(f"{{folder}}/{{name}}.onnx", options)


context, size = told["context_length"], told["sequence_length"]
shape = (1, told["key_heads"], context, told["head"])
names = [f"{{part}}.{{n}}" for n in range(told["layers"]) for part in ("key", "value")]
kept = {{name: np.zeros(shape, np.int16) for name in names}}


def follow(graph, ids, start, size):
    mask = np.zeros((1, 1, size, context), np.uint16)
    mask[..., :start], mask[..., context - size :] = 65535, 65535 * np.tri(size)
    given = {{f"past.{{name}}": kept[name][:, :, : context - size] for name in names}}
    given["input_ids"] = np.array([ids + [0] * (size - len(ids))], np.int32)
    given["position_ids"] = np.arange(start, start + size, dtype=np.int32).clip(max=context - 1)
    outputs = ["logits.integer", *(f"present.{{name}}.integer" for name in names)]
    logits, *new = graph.run(outputs, {{**given, "attention_mask": mask}})
    for name, part in zip(names, new):
        kept[name][:, :, start : start + len(ids)] = part[:, :, : len(ids)]
    return int(logits[0, len(ids) - 1].argmax())


prefill, decode = opened("prefill"), opened("decode")
tokenizer = Tokenizer.from_file(f"{{folder}}/tokenizer.json")
{_spelt(ask)}
tokens = [{prefix}*{encoded}]
for start in range(0, len(tokens), size):
    following = follow(prefill, tokens[start : start + size], start, size)
answer = []
while following not in told["stops"] and len(answer) < {ask.longest}:
    answer.append(following)
    if len(tokens) + len(answer) > context:
        break
    following = follow(decode, [following], len(tokens) + len(answer) - 1, 1)
print(tokenizer.decode(answer, skip_special_tokens=False))"""
    return Snippet("From Python, without slmcompile:", text, "python")


def openvino(ask: Ask) -> Snippet:
    """openvino-genai, with the settings of which the figures are.

    Left to itself it rounds to bfloat16 where the processor has that, and its paged attention keeps
    other keys and values than the graph's own.
    """
    prefix = "".join(f"{token}, " for token in prefix_ids(ask.prompt))
    encoded = "tokenizer.encode(prompt, add_special_tokens=False)"
    given = f"{encoded}.input_ids"
    tokens = f"Tensor(np.array([[{prefix}*{given}.data[0]]]))" if prefix else given
    text = f"""{"import numpy as np" + chr(10) if prefix else ""}import openvino_genai as ov
{"from openvino import Tensor" + chr(10) if prefix else ""}
as_measured = {{"INFERENCE_PRECISION_HINT": "f32", "ATTENTION_BACKEND": "SDPA"}}
model = ov.LLMPipeline({ask.folder!r}, "CPU", **as_measured)
tokenizer = model.get_tokenizer()
{_spelt(ask)}
tokens = {tokens}

answer = model.generate(tokens, max_new_tokens={ask.longest}, do_sample=False)
print(tokenizer.decode(answer.tokens[0]))"""
    return Snippet("From Python, without slmcompile:", text, "python")


def _spelt(ask: Ask) -> str:
    """Lines of Python that make the prompt."""
    if ask.values is None:
        return f"prompt = {ask.whole!r}  # as the model's chat template writes it"
    terms = []
    for piece in parse(ask.prompt["text"], "prompt.json: text"):
        terms += [repr(piece.literal)] if piece.literal else []
        terms += [f"values[{piece.field!r}]"] if piece.field is not None else []
    return f"values = {dict(ask.values)!r}\nprompt = {' + '.join(terms)}"


def prefix_ids(prompt: Mapping[str, Any]) -> Sequence[int]:
    """Ids before the prompt's own; none where its text begins with them."""
    texts = {token: text for text, token in prompt.get("control_tokens", {}).items()}
    prefix = prompt.get("prefix_ids", ())
    begins = "".join(texts.get(token, "") for token in prefix)
    return () if begins and str(prompt["text"]).startswith(begins) else prefix


def llama_cpp(ask: Ask) -> Snippet:
    """llama.cpp's server, and Ollama by the Modelfile."""
    sent = {"prompt": ask.whole or "hello", "n_predict": ask.longest, "temperature": 0}
    body = shlex.quote(json.dumps(sent, ensure_ascii=False))
    values = list((ask.values or {}).values())
    typed = shlex.quote(values[0] if len(values) == 1 else ask.whole or "hello")
    name = shlex.quote(ask.name)
    text = f"""llama-server --model {shlex.quote(ask.folder)}/model.gguf &
curl --silent --retry 9 --retry-connrefused http://127.0.0.1:8080/completion --data {body}

ollama create {name} --file {shlex.quote(ask.folder)}/Modelfile
ollama run {name} {typed}"""
    return Snippet("With llama.cpp, and with Ollama, without slmcompile:", text, "sh")


def web(ask: Ask) -> Snippet:
    """The modules that a package for a browser has."""
    if ask.values is None:
        whole = json.dumps([ask.whole])
        told = f"""const tokens = [];
for await (const token of model.tokens(model.encode({whole}), {ask.longest})) tokens.push(token);
console.log(model.decode(tokens));"""
    else:
        values = json.dumps(dict(ask.values))
        told = f"""let answer = "";
for await (const text of model.answer({values}, {ask.longest})) answer = text;
console.log(answer);"""
    text = f"""import {{ open }} from "./model.mjs";

const model = await open();
{told}"""
    lead = "In a page, beside the files of the package that `slmcompile package` makes of it:"
    return Snippet(lead, text, "js", keeps_text=True)
