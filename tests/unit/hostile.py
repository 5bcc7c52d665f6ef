"""Recipes, groups, overrides and files that try to get out: what each does, and the answer."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmcompile.console.errors import Exit

REFUSED, BAD, USAGE, DATA = Exit.REFUSED, Exit.BAD_RECIPE, Exit.USAGE, Exit.BAD_DATA
ON = "defaults: [tiny, _self_]\n"
"""A recipe that is ``tiny`` with what follows."""


@dataclass(frozen=True)
class Hostile:
    """One attempt.

    Attributes:
        name: what it tries.
        code: the exit code it must get.
        recipe: text of ``recipes/evil.yaml``; ``tiny`` itself is planned where it is empty.
        files: other files by path; ``CANARY`` and ``SECRET`` in them become real paths.
        links: symbolic links by path.
        fifos: paths of FIFOs.
        words: overrides.
    """

    name: str
    code: int
    recipe: str | bytes = ""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    fifos: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def lay_out(self, root: Path, canary: str, secret: str) -> list[str]:
        """Writes the attempt into a project; the words to plan it with."""

        def filled(text: str | bytes) -> bytes:
            data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            return data.replace(b"CANARY", canary.encode()).replace(b"SECRET", secret.encode())

        files = dict(self.files) | ({"recipes/evil.yaml": self.recipe} if self.recipe else {})
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(filled(text))
        for path, target in self.links.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if (root / path).exists():
                (root / path).rename(root / f"{path}.real")
            (root / path).symlink_to(filled(target).decode())
        for path in self.fifos:
            (root / path).unlink(missing_ok=True)
            os.mkfifo(root / path)
        evil = (root / "recipes/evil.yaml").exists() or (root / "recipes/evil.yaml").is_symlink()
        words = [filled(word).decode("utf-8", "surrogateescape") for word in self.words]
        return ["plan", "evil" if evil else "tiny", *words]


def recipe(name: str, text: str | bytes, code: int = REFUSED) -> Hostile:
    return Hostile(name, code, recipe=text)


def override(name: str, *words: str, code: int = REFUSED) -> Hostile:
    return Hostile(name, code, words=words)


def default(entry: str, code: int = REFUSED) -> Hostile:
    return recipe(f"defaults: {entry}", f"defaults:\n  - tiny\n  - {entry}\n", code)


def nested(entry: str) -> Hostile:
    return Hostile(
        f"a group's defaults: {entry}",
        REFUSED,
        recipe="defaults: [tiny, {override /model: evil}]\n",
        files={"conf/model/evil.yaml": f"defaults:\n  - tiny-llama\n  - {entry}\n"},
    )


def group(name: str, text: str | bytes, code: int = REFUSED) -> Hostile:
    return Hostile(name, code, files={"conf/train/tiny.yaml": text})


TOUCH = "{_target_: os.system, _args_: ['touch CANARY']}"
POPEN = "!!python/object/apply:subprocess.Popen [['touch', 'CANARY']]"

CODE = [
    recipe("hydra.run.dir", ON + "hydra: {run: {dir: CANARY}}\n"),
    recipe("hydra callbacks", ON + f"hydra: {{callbacks: {{x: {TOUCH}}}}}\n"),
    recipe("hydra searchpath", ON + "hydra: {searchpath: ['file://SECRET', 'pkg://os']}\n"),
    group("hydra in a group file", "hydra: {run: {dir: CANARY}}\n"),
    group("a package header to hydra", "# @package hydra\nrun: {dir: CANARY}\n"),
    group("a package header below hydra", "# @package _global_.hydra.run\ndir: CANARY\n"),
    recipe("_target_ at the top", ON + "_target_: os.system\n"),
    recipe("_target_ in a section", ON + f"train: {TOUCH}\n"),
    recipe("_target_ in a list", ON + f"gates: [{TOUCH}]\n"),
    recipe("_target_ deep down", ON + f"train: {{lora: {{a: [{{b: {TOUCH}}}]}}}}\n"),
    group("_target_ in a group file", "method: lora\nlora:\n  _target_: os.system\n"),
    recipe("_partial_", ON + "train: {_partial_: true}\n"),
    recipe("_args_", ON + "train: {_args_: [1]}\n"),
    recipe("_call_", ON + "train: {_call_: true}\n"),
    recipe("a python tag", ON + f"description: {POPEN}\n"),
    recipe("a python name tag", ON + "description: !!python/name:os.system\n"),
    recipe("an include tag", ON + "description: !include SECRET\n"),
    recipe("a binary tag", ON + "description: !!binary aGk=\n"),
    recipe("a tag on a key", ON + f"? {POPEN}\n: 1\n"),
    recipe("trust_remote_code", ON + "model: {trust_remote_code: true}\n", BAD),
    recipe("attn_implementation of a hub", ON + "model: {attn_implementation: x/y}\n", BAD),
    recipe("a command in a path", ON + "data: {source: {path: '$(touch CANARY)'}}\n", DATA),
    recipe("a command in a name", ON + "model: {name: '$(touch x); `touch x`'}\n", BAD),
    recipe("a command in a text", ON + "description: '$(touch CANARY); `touch CANARY`'\n", 0),
]
RESOLVERS = [
    recipe(f"resolver {text}", ON + f"description: '{text}'\n")
    for text in (
        "${oc.env:CANARY_SECRET}",
        "${ oc.env :CANARY_SECRET}",
        "${oc.decode:'1'}",
        "${now:%Y}",
        "${hydra:runtime.cwd}",
        "${oc.create:{a: 1}}",
        "${oc.dict.keys:train}",
        "${a${oc.env:CANARY_SECRET}}",
        "${oc.${x}:CANARY_SECRET}",
        "${${x}.y}",
        "x ${oc.env:CANARY_SECRET} y",
        r"\${oc.env:CANARY_SECRET}",
        r"\\${oc.env:CANARY_SECRET}",
        "${oc.env",
        "${}",
        "${train.seed + 1}",
    )
] + [
    group("a resolver in a group file", "method: ${oc.env:CANARY_SECRET}\n"),
    recipe("a resolver in defaults", "defaults: ['${oc.env:CANARY_SECRET}']\n"),
]
ESCAPES = [
    *map(
        default,
        (
            "../../SECRET",
            "SECRET",
            "/SECRET",
            "//SECRET",
            "/etc/passwd",
            "file:///etc/passwd",
            "pkg://os",
            "https://example.com/x",
            "~/x",
            "'C:\\x'",
            "model: ../../SECRET",
            "model: SECRET",
            "model: //etc/passwd",
            "/etc: passwd",
            "../etc: passwd",
            "override /etc: passwd",
            "optional model: ../../SECRET",
            "optional ../model: x",
            "hydra/config",
            "hydra/launcher: basic",
            "override hydra/job_logging: none",
            "override /hydra/launcher: basic",
            "optional hydra/x: y",
            "model@hydra: tiny-llama",
            "model@hydra.run: tiny-llama",
            "model@_global_.hydra: tiny-llama",
            "tiny@hydra",
            "model: ${oc.env:HOME}",
            "model: '${data}'",
            "target: [cpu-fp32, ../../SECRET]",
            "override /target: ['${data}']",
        ),
    ),
    *map(
        nested, ("../../SECRET", "/etc/passwd", "file:///etc/passwd", "/hydra/config", "../../tiny")
    ),
    Hostile("a link as recipe", REFUSED, links={"recipes/evil.yaml": "SECRET"}),
    Hostile("a link to a device as recipe", REFUSED, links={"recipes/evil.yaml": "/dev/zero"}),
    Hostile("a link to itself as recipe", REFUSED, links={"recipes/evil.yaml": "evil.yaml"}),
    Hostile("a FIFO as recipe", REFUSED, fifos=("recipes/evil.yaml",), words=()),
    Hostile("recipes is a link", REFUSED, links={"recipes": "recipes.real"}),
    Hostile("conf is a link", REFUSED, links={"conf": "conf.real"}),
    Hostile("a group is a link", REFUSED, links={"conf/train": "train.real"}),
    Hostile("an option is a link", REFUSED, links={"conf/train/tiny.yaml": "SECRET"}),
    Hostile("an option is a FIFO", REFUSED, fifos=("conf/train/tiny.yaml",)),
    Hostile(".dvc/config is a link", REFUSED, links={".dvc/config": "SECRET"}),
    Hostile("dvc.lock is a link", REFUSED, links={"pipelines/tiny/dvc.lock": "SECRET"}),
    Hostile("plan specs are a link", REFUSED, links={"pipelines/tiny/plan": "/etc"}),
    Hostile(".dvc/config is not one", Exit.CORRUPT, files={".dvc/config": "\x1b]0;x"}),
]
DATA_PATHS = [
    *(
        override(f"data at {path}", f"data.source.path='{path}'", code=code)
        for path, code in (
            ("/etc/passwd", REFUSED),
            ("SECRET", REFUSED),
            ("../outside.jsonl", REFUSED),
            ("data/../../outside.jsonl", REFUSED),
            ("http://example.com/x.jsonl", REFUSED),
            ("/dev/zero", REFUSED),
            ("data/tiny", DATA),
            (".env", REFUSED),
            ("data/.cache/rows.jsonl", REFUSED),
            ("/etc/pass*", REFUSED),
            ("../*", REFUSED),
            ("data/*/../../../*", REFUSED),
            (".e*", REFUSED),
            ("data/**/*.jsonl", Exit.BAD_RECIPE),
        )
    ),
    *(
        Hostile(f"rows with {name}", DATA, files={path: text}, words=(f"data.source.path={path}",))
        for name, path, text in (
            ("many columns", "w.csv", ",".join(f"{n:x}" for n in range(12_000)) + "\n1,2\n"),
            ("a long key twice", "w.jsonl", '{"K": 1, "K": 2}'.replace("K", "k" * 30_000)),
            ("many keys", "w.jsonl", json.dumps({f"{n:x}": 1 for n in range(3000)})),
            ("a credential", "w.csv", f"TOKEN=hf_{'a' * 34}\nx\n"),
        )
    ),
    recipe("data at a NUL", ON + 'data: {source: {path: "a\\0b"}}\n'),
    Hostile("data is a link", REFUSED, links={"data/tiny/commands.jsonl": "SECRET"}),
    Hostile("a data folder is a link", REFUSED, links={"data/tiny": "tiny.real"}),
    Hostile("data is a FIFO", REFUSED, fifos=("data/tiny/commands.jsonl",)),
    Hostile(
        "a glob meets a link",
        REFUSED,
        links={"data/tiny/x.jsonl": "SECRET"},
        words=("data.source.path=data/tiny/*.jsonl",),
    ),
    Hostile(
        "a glob goes through a link",
        REFUSED,
        links={"data/linked": "/"},
        words=("data.source.path=data/linked/*.jsonl",),
    ),
    Hostile(
        "a glob meets a FIFO",
        REFUSED,
        fifos=("data/tiny/x.jsonl",),
        words=("data.source.path=data/tiny/*.jsonl",),
    ),
    Hostile(
        "a gzip bomb",
        0,
        files={"b.csv.gz": gzip.compress(b"a" * (256 << 20), mtime=0)},
        words=("data.source.path=b.csv.gz",),
    ),
    override("tokenizer text outside", "model.source.tokenizer_text=/etc/passwd"),
]
MODEL = {"conf/model/evil.yaml": "name: x\nlicense: MIT\nsource: {type: folder, path: model}\n"}
CODE_FILE = "import os\nos.system('touch CANARY')\n"
PICKLE = b"\x80\x04cos\nsystem\n(S'touch CANARY'\ntR."
BRACKETS = (300_000).to_bytes(8, "little") + b"[" * 300_000


def folder(
    name: str,
    code: int,
    files: Mapping[str, Any],
    links: Mapping[str, str] | None = None,
    fifos: tuple[str, ...] = (),
) -> Hostile:
    return Hostile(
        f"a model folder with {name}",
        code,
        recipe="defaults: [{model: evil}, {data: tiny-commands}, {train: tiny}, {eval: text},"
        " {target: [cpu-fp32]}]\n",
        files={**MODEL, **files},
        links=links or {},
        fifos=fifos,
    )


def llama(name: str, code: int, *, shape: Any = (256, 64), **files: Any) -> Hostile:
    """A folder of JSON that could be a Llama's but for what is given; text stays as it is."""
    layer = "model.layers.0.self_attn.q_proj.weight"
    shapes = {"model.embed_tokens.weight": shape, layer: (64, 64)}
    header = json.dumps({key: {"dtype": "F32", "shape": value} for key, value in shapes.items()})
    written: dict[str, str | bytes] = {
        f"model/{file}.json": content if isinstance(content, str) else json.dumps(content)
        for file, content in ({"config": LLAMA, "tokenizer_config": {}} | files).items()
    }
    weights = len(header).to_bytes(8, "little") + header.encode()
    return folder(name, code, {**written, "model/model.safetensors": weights})


LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 256,
}
VALUES: tuple[Any, ...] = ("abc", math.inf, math.nan, [1], {}, -1)
SHAPES: tuple[Any, ...] = (
    *([-5, "a"], [[1], {}], "abc", [None], ["256", "64"], [True, 64], [10**4000] * 2),
    *([1e308] * 2, [2**39] * 2, [1] * 9, None, {}),
)
NAMES_OF_TYPES: tuple[Any, ...] = ([], {}, [1])
SIZES = (*LLAMA, "num_key_value_heads", "head_dim", "max_position_embeddings")
MANY = '{"a": [' + "[]," * 600_000 + "[]]}"
JSON_OF_MODELS = [
    llama("nothing wrong", 0),
    *(
        llama(
            f"weight_map: {shown}",
            Exit.CORRUPT,
            **{"model.safetensors.index": f'{{"weight_map": {shown}}}'},
        )
        for shown in ("[]", '"abc"', '{"a": 1}', '{"a": [1]}', '{"a": null}')
    ),
    *(llama(f"the shape {str(shape)[:20]}", Exit.CORRUPT, shape=shape) for shape in SHAPES),
    *(
        llama(f"{key}: {str(value)[:20]}", 0, config=LLAMA | {key: value})
        for key, value in (
            *((size, 10**400) for size in SIZES if size != "model_type"),
            *(("intermediate_size", value) for value in VALUES),
            ("num_key_value_heads", "abc"),
            ("head_dim", [1]),
        )
    ),
    *(
        llama(f"model_type: {value}", BAD, config=LLAMA | {"model_type": value})
        for value in NAMES_OF_TYPES
    ),
    *(
        llama(f"{key}: {value}, in {where}", 0, config={**LLAMA, **wrong})
        for key in ("use_bidirectional_attention", "model_type")
        for value in NAMES_OF_TYPES
        for where, wrong in (("a text_config", {"text_config": {key: value}}), ("it", {key: value}))
        if where != "it" or key != "model_type"
    ),
    llama(
        "nested text_config",
        0,
        config=json.dumps(LLAMA)[:-1] + ', "text_config": {"x": 1' * 600 + "}" * 601,
    ),
    llama(
        "an endless token id",
        0,
        tokenizer='{"added_tokens": [{"id": 1e999, "content": "x"}], "model": {"vocab": {}}}',
    ),
    llama("an endless config", Exit.CORRUPT, config=MANY * 2),
    llama("endless configs", Exit.CORRUPT, **{f"c{n}config": MANY for n in range(9)}),
]
MODELS = [
    folder(name, code, files, links, fifos)
    for name, code, files, links, fifos in (
        ("a link in it", REFUSED, {"model/a": "x"}, {"model/config.json": "SECRET"}, ()),
        ("a FIFO in it", REFUSED, {"model/a": "x"}, {}, ("model/config.json",)),
        ("code", BAD, {"model/config.json": "{}", "model/modeling_x.py": CODE_FILE}, {}, ()),
        (
            "auto_map",
            REFUSED,
            {
                "model/config.json": '{"auto_map": {"AutoModel": "modeling_x.Model"}}',
                "model/modeling_x.py": CODE_FILE,
                "model/model.safetensors": b"\x02" + b"\0" * 7 + b"{}",
            },
            {},
            (),
        ),
        (
            "pickles",
            REFUSED,
            {"model/config.json": "{}", "model/pytorch_model.bin": PICKLE},
            {},
            (),
        ),
        ("endless JSON", Exit.CORRUPT, {"model/config.json": "[" * 300_000}, {}, ()),
        (
            "a header that lies",
            Exit.CORRUPT,
            {"model/config.json": "{}", "model/model.safetensors": b"\xff" * 64},
            {},
            (),
        ),
        (
            "a header of brackets",
            Exit.CORRUPT,
            {"model/config.json": "{}", "model/model.safetensors": BRACKETS},
            {},
            (),
        ),
        (
            "an index that leads out",
            REFUSED,
            {
                "model/config.json": "{}",
                "model/model.safetensors": b"\x02" + b"\0" * 7 + b"{}",
                "model/model.safetensors.index.json": '{"weight_map": {"a": "../../SECRET"}}',
            },
            {},
            (),
        ),
        (
            "an endless index",
            Exit.CORRUPT,
            {
                "model/config.json": "{}",
                "model/model.safetensors": b"\x02" + b"\0" * 7 + b"{}",
                "model/model.safetensors.index.json": "[" * 10_000_000,
            },
            {},
            (),
        ),
    )
]
NAMES = [
    recipe("ANSI in a key", ON + '"\\x1b[31mred": 1\n', BAD),
    recipe("a line break in a key", ON + '"a\\nb": 1\n', BAD),
    recipe("bidi in a key", ON + '"a\\u202eb": 1\n', BAD),
    recipe("ANSI in a target", ON + 'target: {"\\x1b[2Jx": {precision: fp32}}\n', BAD),
    recipe("Markdown in a target", ON + 'target: {"[x](javascript:x)": {precision: fp32}}\n', BAD),
    recipe("a table cell in a target", ON + 'target: {"a|b": {precision: fp32}}\n', BAD),
    recipe("ANSI in a model name", ON + 'model: {name: "\\x1b[31mx"}\n', BAD),
    recipe("HTML in a model name", ON + 'model: {name: "<script>"}\n', BAD),
    recipe("ANSI in a wrong value", ON + 'train: {seed: "\\x1b[31m\\n2"}\n', BAD),
    recipe("ANSI in a description", ON + 'description: "\\x1b[31m \\u202e"\n', 0),
    recipe("ANSI in an option", 'defaults: [{model: "\\x1b[31m"}]\n', BAD),
    override("ANSI in an override", "train.\x1b[31m=1", code=BAD),
    override("ANSI in an override's value", "train.seed='\x1b[31m'", code=BAD),
    override("a surrogate in an override", "train.seed='\udc9b31m'", code=BAD),
]
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
DOUBLING = "description: ${v.a40}\nv:\n  a0: xx\n" + "".join(
    f"  a{n}: ${{v.a{n - 1}}}${{v.a{n - 1}}}\n" for n in range(1, 41)
)
SECTIONS = "v:\n  a0: {x: 1, y: 2}\n" + "".join(
    f"  a{n}: {{l: '${{v.a{n - 1}}}', r: '${{v.a{n - 1}}}'}}\n" for n in range(1, 30)
)
LIMITS = [
    recipe(
        "many targets",
        ON + "target:\n" + "".join(f"  t{n}: {{precision: fp32}}\n" for n in range(4000)),
        BAD,
    ),
    recipe("billion laughs", LAUGHS, BAD),
    recipe("billion laughs by reference", ON + DOUBLING, BAD),
    recipe("sections by reference", ON + SECTIONS, BAD),
    recipe("many references", ON + "v: [" + "'${train.x}', " * 3000 + "]\n", BAD),
    recipe("a merge key", ON + "<<: {a: 1}\n", BAD),
    recipe(
        "a loop of references",
        ON + "train: {seed: '${data.seed}'}\ndata: {seed: '${train.seed}'}\n",
        BAD,
    ),
    recipe("a reference to itself", ON + "train: {seed: '${.seed}'}\n", BAD),
    recipe("a reference to its section", ON + "train: {seed: '${train}'}\n", BAD),
    recipe("deep brackets", "a: " + "[" * 100_000, BAD),
    recipe("deep braces", "a: " + "{a: " * 50_000, BAD),
    recipe("deep blocks", "".join(" " * n + "a:\n" for n in range(600)), BAD),
    recipe("deep dashes", "a: \n" + "- " * 60_000 + "\n", BAD),
    recipe("many nodes", "a: [" + "1, " * 30_000 + "]\n", BAD),
    recipe("a large file", "# x\n" * 100_000, BAD),
    recipe("a long key", "a" * 500 + ": 1\n", BAD),
    recipe("a long line", ON + "description: " + "x" * 200_000 + "\n", 0),
    recipe("duplicate keys", ON + "train: {seed: 1, seed: 2}\n", BAD),
    recipe("a number as key", ON + "1: 1\n", BAD),
    recipe("a truth value as key", ON + "yes: 1\n", BAD),
    recipe("nothing as key", ON + "~: 1\n", BAD),
    recipe("a list as key", ON + "? [a]\n: 1\n", BAD),
    recipe("a section as key", ON + "? {a: b}\n: 1\n", BAD),
    recipe("two documents", ON + "---\na: 1\n", BAD),
    recipe("NUL", ON + "description: a\0b\n", BAD),
    recipe("not UTF-8", b"description: \xff\xfe\n", BAD),
    recipe("UTF-16", "defaults: [tiny]\n".encode("utf-16"), BAD),
    recipe("a huge integer", ON + f"train: {{seed: {10**30}}}\n", BAD),
    recipe("digits without end", ON + f"train: {{seed: {'9' * 6000}}}\n", BAD),
    recipe("a huge exponent", ON + "train: {learning_rate: 1e999999}\n", BAD),
    recipe("infinity", ON + "train: {learning_rate: .inf}\n", BAD),
    recipe("not a number", ON + "train: {learning_rate: .nan}\n", BAD),
    recipe("endless sexagesimals", ON + f"train: {{seed: 1{':59' * 3000}}}\n", BAD),
    recipe("a recipe in its own defaults", "defaults: [evil]\n", BAD),
    recipe("many defaults", "defaults: [" + "tiny, " * 500 + "]\n", BAD),
    Hostile(
        "defaults in a loop",
        BAD,
        recipe="defaults: [other]\n",
        files={"recipes/other.yaml": "defaults: [evil]\n"},
    ),
    Hostile(
        "defaults that double",
        BAD,
        recipe="defaults: [d0, e0]\n",
        files={
            f"recipes/{side}{n}.yaml": f"defaults: [d{n + 1}, e{n + 1}]\n"
            for n in range(30)
            for side in "de"
        },
    ),
    override("deep brackets in an override", "gates=" + "[" * 3000, code=BAD),
    override("deep braces in an override", "train=" + "{a:" * 2000, code=BAD),
    override("deep references in an override", "train.seed=" + "${a." * 1500, code=BAD),
    override("a long override", "description=" + "x" * 300_000, code=BAD),
    override("a long list", f"gates=[{'1,' * 2000}1]", code=BAD),
    override("a list too long", f"gates=[{'1,' * 3000}1]", code=BAD),
    override("many overrides", *(f"train.x{n}=1" for n in range(3000)), code=BAD),
    override("digits in an override", f"train.seed={'9' * 6000}", code=BAD),
    override("a huge integer in an override", f"train.seed={10**25}", code=BAD),
    override("a key of an integer", "train={1: 2}", code=BAD),
    override("a shuffle", "target=shuffle([cpu-fp32,cpu-int8])", code=BAD),
    override("a sweep", "train.seed=1,2,3", code=BAD),
    override("an endless range", "train.seed=range(1,1e18)", code=BAD),
]
OVERRIDES = [
    override("an override of hydra.run.dir", "hydra.run.dir=CANARY"),
    override("+hydra.searchpath", "+hydra.searchpath=['file://SECRET']"),
    override("++hydra", "++hydra.job_logging.x=1"),
    override("~hydra", "~hydra"),
    override("hydra/launcher", "hydra/launcher=basic"),
    override("+a@hydra", "+train@hydra=tiny"),
    override("@hydra with a rename", "model@hydra:x=tiny-llama"),
    override("a group outside", "model=../../SECRET"),
    override("an absolute option", "model=SECRET"),
    override("an absolute option, added", "+model=//etc/passwd"),
    override("an option in a list outside", "target=[cpu-fp32,'../../SECRET']"),
    override("an option by reference", "model=${data}"),
    override("a group outside as key", "../model=x"),
    override("_target_", "train._target_=os.system"),
    override("+_target_", "+_target_=os.system"),
    override("_target_ in an override", "+train={_target_: os.system}"),
    override("_target_ in an override of a list", "gates=[{a: [{_target_: os.system}]}]"),
    override("a resolver", "description=${oc.env:CANARY_SECRET}"),
    override("a resolver in quotes", "description='${oc.env:CANARY_SECRET}'"),
    override("a resolver in a section", "train={a: '${oc.env:CANARY_SECRET}'}"),
    override("a resolver in a list", "gates=['${oc.env:CANARY_SECRET}']"),
    override("a resolver in a resolver", "description='${a${oc.env:CANARY_SECRET}}'"),
    override("an option of hydra's own", "--config-dir=/etc", code=USAGE),
    override("multirun", "--multirun", code=USAGE),
]


def dvc_lock(name: str, text: str | bytes) -> Hostile:
    return Hostile(f"dvc.lock: {name}", Exit.CORRUPT, files={"pipelines/tiny/dvc.lock": text})


def hub(name: str, code: int, lock: str | bytes = "", link: str = "") -> Hostile:
    return Hostile(
        f"locks/evil.lock: {name}",
        code,
        recipe="defaults: [{model: evil}, {data: tiny-commands}, {train: tiny}, {eval: text},"
        " {target: [cpu-fp32]}]\n",
        files={
            "conf/model/evil.yaml": "name: x\nlicense: MIT\n"
            "source: {type: hub, repo_id: owner/model, revision: main}\n"
        }
        | ({"locks/evil.lock": lock} if lock else {}),
        links={"locks/evil.lock": link} if link else {},
    )


ENTRY = "stages: {{gate: {{cmd: x, outs: [{{path: {}, md5: {}}}]}}}}\n"
LOCK = 'format_version: "1.0"\nentries:\n'
COMMIT = "commit:" + "0" * 40
LOCKS = [
    *(
        dvc_lock(f"the MD5 {md5[:20]}", ENTRY.format("outputs/x", md5))
        for md5 in (
            *("123", "null", "1.5", "true", "2001-01-01", "2001-99-99", "[1]", "{a: 1}", "''"),
            *("xxSECRET.dir", "SECRET", "../../../x", "a" * 5000, "9" * 6000, "A" * 32),
        )
    ),
    *(
        dvc_lock(f"the path {path}", ENTRY.format(path, "a" * 32))
        for path in ("1", "null", "[a]", "/etc/passwd", "../x", "a/../../x", "''")
    ),
    dvc_lock("billion laughs", LAUGHS + ENTRY.format("outputs/x", "*a29")),
    dvc_lock("an alias", "a: &a " + "a" * 32 + "\n" + ENTRY.format("outputs/x", "*a")),
    dvc_lock("deep brackets", "stages: " + "[" * 100_000),
    dvc_lock("many nodes", "stages: {}\nx: [" + "[]," * 80_000 + "]\n"),
    dvc_lock("without end", "stages: {}\nx:\n" + "- {}\n" * 3_000_000),
    dvc_lock("not UTF-8", b"stages: {}\nx: \xff\xfe\n"),
    *(
        dvc_lock(f"the stages {text}", f"stages: {text}\n")
        for text in ("[1]", "1", "{a: 1}", "abc")
    ),
    hub("an escape that JSON does not know", Exit.CORRUPT, LOCK + f'  "a\\qb": "{COMMIT}"\n'),
    hub("a key without end", Exit.CORRUPT, LOCK + f'  "{"a" * 4_000_000}": "{COMMIT}"\n'),
    hub("not UTF-8", Exit.CORRUPT, b"\xff\xfe"),
    hub("without end", Exit.CORRUPT, "#\n" * 3_000_000),
    hub("a link outside", REFUSED, link="SECRET"),
    hub("a link to a device", REFUSED, link="/dev/zero"),
]
CACHES = [
    Hostile(
        f"cache.dir is {name}", REFUSED, files={".dvc/config": f"[cache]\n    dir = {folder}\n"}
    )
    for name, folder in (("long", "a" * 5000), ("no path", "a\0b"))
]
MINE = "train: {loss: {type: python, file: losses/mine.py, name: Mine}}\n"


def loss(
    name: str, code: int, text: str | bytes = "", link: str = "", fifo: bool = False, also: str = ""
) -> Hostile:
    return Hostile(
        f"a loss: {name}",
        code,
        recipe=ON + MINE,
        files=({"losses/mine.py": text} if text else {}) | ({also: TOUCHES} if also else {}),
        links={"losses/mine.py": link} if link else {},
        fifos=("losses/mine.py",) if fifo else (),
    )


TOUCHES = "open('CANARY', 'w')\n\n\nclass Mine:\n    open('CANARY', 'w')\n"
LOSS_FILES = [
    loss("code that the policy does not name", REFUSED, TOUCHES),
    loss("a module beside it", REFUSED, "import beside\nMine = 1\n", also="losses/beside.py"),
    loss("a module of the project", REFUSED, "import top\nMine = 1\n", also="top.py"),
    loss("a package's name", REFUSED, "import losses.x\nMine = 1\n", also="losses/__init__.py"),
    loss("a relative import", REFUSED, "from .beside import x\n", also="losses/beside.py"),
    loss("an import by name", REFUSED, "Mine = __import__('os').system('touch CANARY')\n"),
    loss("a link outside", REFUSED, link="SECRET"),
    loss("a link to a device", REFUSED, link="/dev/zero"),
    loss("a FIFO", REFUSED, text="x", fifo=True),
    loss("without end", REFUSED, "x = 1\n" * 1_000_000),
    loss("deep", BAD, "-" * 200_000 + "1\n"),
    loss("deep brackets", BAD, "[" * 200_000),
    loss("a long chain", BAD, "x" + ".x" * 100_000 + "\n"),
    loss("not UTF-8", BAD, b"Mine = '\xff\xfe'\n"),
    loss("null bytes", BAD, "Mine = 1\0\n"),
    loss("escapes in its words", BAD, "\x1b[2J = 1\n"),
    loss("an encoding of its own", BAD, "# -*- coding: no_such -*-\nMine = 1\n"),
    override(
        "a loss outside of the project",
        "train.loss={type: python, file: ../../etc/mine.py, name: Mine}",
    ),
    override("a hidden loss", "train.loss={type: python, file: .git/config, name: Mine}"),
    override("a loss at an address", "train.loss={type: python, file: 'http://x/y.py', name: M}"),
    override(
        "a name that is code",
        "train.loss={type: python, file: losses/mine.py, name: 'x;import os'}",
        code=BAD,
    ),
]
ATTEMPTS = [
    *CODE,
    *RESOLVERS,
    *ESCAPES,
    *DATA_PATHS,
    *MODELS,
    *JSON_OF_MODELS,
    *NAMES,
    *LIMITS,
    *OVERRIDES,
    *LOCKS,
    *CACHES,
    *LOSS_FILES,
]
