"""Coverage-guided fuzzing of the recipe loader and the override parser, with atheris.

Not in the lock, since atheris carries its own libFuzzer and has wheels for few Pythons:

    python -m venv fuzz && fuzz/bin/pip install -c constraints.txt -e . atheris
    fuzz/bin/python tests/fuzz/fuzz_recipe.py -max_total_time=300 -rss_limit_mb=1024

Each input is a recipe, a group file, a defaults list or an override, by its first byte. Anything
but an error of ours, in one line that shows itself, is a finding; libFuzzer writes the input to
``crash-*`` and ends with its own exit code. Timeouts and memory are libFuzzer's to watch.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["slmcompile.recipe", "slmcompile.planning"]):
    from slmcompile.console.errors import SlmcompileError
    from slmcompile.execution.sync import compile_recipe
    from slmcompile.recipe.project import Project

MODEL = "name: m\nsource: {type: random, tokenizer_text: text}\n"
DATA = (
    "name: d\ntask: classification\nsource: {type: file, path: text}\n"
    "template: {type: text, prompt: '{a}', completion: '{b}'}\n"
)
RECIPE = "defaults: [{model: m}, {data: d}, {train: t}, {eval: e}, {target: [c]}, _self_]\n"
OPTIONS = {"model/m": MODEL, "data/d": DATA, "train/t": "seed: 1\n", "eval/e": "limit: 1\n"}
SEEDS = (
    b"0" + RECIPE.encode(),
    b"1train: {seed: 2, lora: {r: 4}}\ngates: [{metric: exact_match, min: 0.5}]\n",
    b"1description: ${model.name} and ${.description}\n",
    b"2seed: 1\nlora: {r: 8, target_modules: [q_proj]}\nlearning_rate: 2e-5\n",
    b"3- override /train: t\n- model@data: m\n- optional eval: x\n",
    b"4train.seed=3\n+train.lora.r=8\n~gates\ngates=[{metric: exact_match, min: 1e-1}]\n",
    b"4model=m\ntarget=[c]\ntrain={a: 'b', c: ${data.name}}\n",
)


def project(root: Path) -> Project:
    """A small project, made anew for every process."""
    options = OPTIONS | {"target/c": "c: {precision: fp32}\n"}
    for name, text in options.items():
        path = root / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "recipes").mkdir()
    (root / "recipes" / "base.yaml").write_text(RECIPE, encoding="utf-8")
    (root / "text").write_text("a\n", encoding="utf-8")
    return Project(root)


def main() -> None:
    """Fuzzes until libFuzzer's limits; its own options are those of the command line."""
    root = Path(tempfile.mkdtemp()).resolve()
    ours = project(root)
    corpus = root / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed)
    recipe, group = root / "recipes" / "r.yaml", root / "conf" / "train" / "t.yaml"
    extended = b"defaults: [base, _self_]\n"

    def one(data: bytes) -> None:
        kind, body = data[:1], data[1:]
        overrides: list[str] = []
        group.write_bytes(body if kind == b"2" else b"seed: 1\n")
        if kind == b"0":
            recipe.write_bytes(body)
        elif kind == b"3":
            recipe.write_bytes(b"defaults:\n- base\n" + body)
        else:
            recipe.write_bytes(extended + (body if kind == b"1" else b""))
        if kind == b"4":
            overrides = body[:512].decode("utf-8", "surrogateescape").split("\n")
        try:
            compile_recipe(ours, "r", overrides)
        except SlmcompileError as error:
            if not error.what.isprintable() or len(error.what) > 1500:
                raise AssertionError(ascii(error.what)) from error

    atheris.Setup([*sys.argv, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
