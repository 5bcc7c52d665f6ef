"""What check 7 predicts of quantising and exporting, and what these stages then take.

Each builds in a process of its own with the stage's own code, a random adapter merged into the base
or beside it; the kernel's largest resident size (VmHWM) is set against the interval that a plan
shows. The base model is the one of the quickstart, fetched as its recipe says, or any folder of a
Llama. What stands beside a base needs that quantised before it.

    python benchmarks/build_memory.py
    python benchmarks/build_memory.py --base FOLDER --only quantize/int4 beside/int4
    python benchmarks/build_memory.py --random --only merged/int4 merged/int8 merged/fp32

With ``--random`` it is a Llama of 1.13 billion random weights, of the size and form of TinyLlama.
Times fp32 is the measured size over that of the base's weights in fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from memory_prediction import fetched, line, resident

from slmcompile.base.facts import read_model_facts
from slmcompile.console.progress import Silent
from slmcompile.data.store import IGNORED, Row
from slmcompile.estimate.build_memory import export_memory, quantize_memory
from slmcompile.estimate.memory import Rows, decoder_of
from slmcompile.facts.architecture import architecture
from slmcompile.files.artifact import write_json
from slmcompile.machine.process import prepare_to_compute
from slmcompile.providers.cpu import CpuTarget
from slmcompile.shapes.interval import Interval, exactly
from slmcompile.shapes.sizes import PARITY_ROWS

RANK = 16
TEXT = "turn on the light in the kitchen and tell me what the weather is like today in the north "
ADAPTER = f"""
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
config = LoraConfig(r={RANK}, target_modules="all-linear", init_lora_weights=False)
get_peft_model(model, config).save_pretrained(sys.argv[2])
"""
"""Random, so that merging it changes every layer."""


RANDOM = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(
    vocab_size=49152, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
    num_attention_heads=32, num_key_value_heads=4, bos_token_id=1, eos_token_id=2, pad_token_id=2,
)
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
model = LlamaForCausalLM(config)
model.save_pretrained(sys.argv[1])
"""


def at_random(like: Path, folder: Path) -> Path:
    """A base model of random weights that has the tokenizer of another."""
    subprocess.run([sys.executable, "-c", RANDOM, str(folder)], check=True)
    for path in like.iterdir():
        if path.name.startswith(("tokenizer", "special", "chat_template", "prompt")):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def fp32_bytes(base: Path) -> float:
    """Size of the base's weights in fp32."""
    facts = read_model_facts(base, base.name)
    model = architecture(facts.config, facts.tensors, facts.dtypes) if facts else None
    return 4.0 * model.parameters if model else float("nan")


def predicted(what: str, target: CpuTarget, base: Path, length: int) -> Interval:
    """The interval of a stage, from the folder's headers and the rows' length."""
    facts = read_model_facts(base, base.name)
    model = architecture(facts.config, facts.tensors, facts.dtypes) if facts else None
    decoder = decoder_of(model) if model else None
    if model is None or decoder is None:
        raise SystemExit(f"{base}: config.json does not name the sizes of its layers")
    if what == "quantize":
        return quantize_memory(target, model)
    each = exactly(length)
    rows = Rows(longest=each, trained=each, prompt=each, train=None, test=None)
    adapter = sum(RANK * (out + into) for out, into in model.linears.values())
    builds = what == "merged"
    return export_memory(target, model, adapter, decoder.vocabulary, rows, builds=builds)


def child(order: Path) -> None:
    """Builds as a file says, and writes its largest resident size into it."""
    prepare_to_compute()
    told: dict[str, Any] = json.loads(order.read_text(encoding="utf-8"))
    target = CpuTarget(precision=told["precision"])
    _build(told["what"], target, Path(told["base"]), order.parent)
    write_json(order, {"peak": resident()})


def _build(what: str, target: CpuTarget, base: Path, folder: Path) -> None:
    out, scratch = folder / f"{what}-{target.precision}", folder / "scratch"
    out.mkdir()
    scratch.mkdir(exist_ok=True)
    adapter, prompt = folder / "adapter", folder / "prompt.json"
    if what == "quantize":
        from slmcompile.export.quantize import quantize

        quantize(target, base, None, out, scratch, Silent())
    elif what == "merged":
        from slmcompile.export.export import export

        export(target, base, adapter, prompt, compared(base), out, scratch, Silent())
    else:
        from slmcompile.export.beside import Standing, export_beside

        held = folder / f"quantize-{target.precision}"
        standing = [Standing("", adapter, prompt, compared(base))]
        export_beside(target, base, None, held, standing, out, Silent())


def compared(base: Path) -> list[Row]:
    """As many rows as an export is compared on, all of one length."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    ids = tokenizer.encode(TEXT * 3, add_special_tokens=False).ids
    whole, labels = [*ids, *ids[:8]], [*[IGNORED] * len(ids), *ids[:8]]
    text = tokenizer.decode(ids)
    return [Row(number, text, "", "", ids, whole, labels) for number in range(PARITY_ROWS)]


def measured(what: str, precision: str, base: Path, folder: Path) -> int:
    """Largest resident size of a process that does nothing else."""
    order = folder / "order.json"
    told = {"what": what, "precision": precision, "base": str(base.resolve())}
    order.write_text(json.dumps(told), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, __file__, "--child", str(order)], env=environment, check=True)
    return int(json.loads(order.read_text(encoding="utf-8"))["peak"])


def main() -> None:
    """Measures and prints."""
    every = [f"{w}/{p}" for p in ("int4", "int8", "fp32") for w in ("quantize", "beside", "merged")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="folder of a base model")
    parser.add_argument("--random", action="store_true", help="1.13 billion random weights")
    parser.add_argument(
        "--only", nargs="+", default=every, help="(quantize|beside|merged)/PRECISION"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    print(f"{'stage':44}{'predicted MB':>16}{'measured':>10}{'inside':>8}{'width':>8}  × fp32")
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = args.base or fetched(folder)
        base = at_random(base, folder / "random") if args.random else base
        made = [sys.executable, "-c", ADAPTER, str(base), str(folder / "adapter")]
        subprocess.run(made, check=True)
        write_json(folder / "prompt.json", {"task": "generation", "template": {}})
        for name in args.only:
            what, _, precision = name.partition("/")
            length = len(compared(base)[0].input_ids)
            interval = predicted(what, CpuTarget(precision=precision), base, length)
            peak = measured(what, precision, base, folder)
            times = f"{peak / fp32_bytes(base):8.2f}"
            print(f"{line(name, '', interval, peak)}{times}", flush=True)
            good = good and peak in interval
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
