"""``run.py``: a short program that answers a text from the folder that it lies in.

It needs onnxruntime-genai and Python's own library, renders a prompt as training did and keeps
control tokens that a user spells text, as ``slmcompile generate`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmcompile.data.template import parse
from slmcompile.plans.artifacts import adapter_file, prompt_file

RUN_PY = "run.py"
MAX_NEW_TOKENS = 256
"""Longest answer of the programs, as of ``generate``."""


@dataclass(frozen=True)
class Asked:
    """How an export is asked.

    Attributes:
        prompt: content of its ``prompt.json``.
        model: ``model`` of its ``genai_config.json``.
        adapter: which is to be chosen in the folder; empty where there is no choice.
        example: a whole prompt, for one that only the model's chat template can write.
    """

    prompt: Mapping[str, Any]
    model: Mapping[str, Any]
    adapter: str = ""
    example: str = ""

    @property
    def columns(self) -> Sequence[str]:
        """The columns whose values a user gives; none where that is a whole prompt."""
        return [] if self.prompt["text"] is None else list(self.prompt["columns"])

    @property
    def parts(self) -> list[tuple[str, str | None]]:
        """Of the prompt, each text with None, and each column's place with its name."""
        return in_parts(self.prompt["text"])

    @property
    def prefix(self) -> list[int]:
        """Ids that stand before the prompt's own."""
        return [int(token) for token in self.prompt.get("prefix_ids", ())]

    @property
    def controlled(self) -> bool:
        """Whether a value can spell a control token."""
        return bool(self.columns) and bool(self.prompt.get("control_tokens"))


def in_parts(text: str) -> list[tuple[str, str | None]]:
    """Each literal of a format string with None, and each column's place with its name."""
    pieces = parse(text, "prompt.json: text")
    texts = [[(piece.literal, None), ("", piece.field)] for piece in pieces]
    return [part for each in texts for part in each if part != ("", None)]


def usage(asked: Asked, program: str = "python run.py") -> str:
    """The command that asks it."""
    if not asked.columns:
        return f"{program} 'a whole prompt, as the chat template writes it'"
    return " ".join([program, *(f"'{name}'" for name in asked.columns)])


def run_py(asked: Asked) -> str:
    """The program."""
    lines = [
        repr(f"{usage(asked)}    (needs onnxruntime-genai and nothing else)"),
        f"import {'json, re, ' if asked.controlled else ''}sys",
        "from pathlib import Path",
        "import onnxruntime_genai as og",
        "",
        "here = Path(__file__).resolve().parent",
        *_prompt(asked),
        *(_cut(asked) if asked.controlled else ["pieces = [prompt]"]),
        "",
        "config = og.Config(str(here))",
        """config.overlay('{"model": {"pad_token_id": -1}}')  # a prompt may end with that token""",
        "model = og.Model(config)",
        "tokenizer = og.Tokenizer(model)",
        "tokens = [int(token) for piece in pieces for token in tokenizer.encode(piece)]",
        *_behind(asked.prefix),
        "params = og.GeneratorParams(model)",
        f"longest = min(len(tokens) + {MAX_NEW_TOKENS}, {int(asked.model['context_length'])})",
        "params.set_search_options(do_sample=False, max_length=longest)",
        "generator = og.Generator(model, params)",
        *_adapter(asked.adapter),
        "generator.append_tokens(tokens)",
        "stream = tokenizer.create_stream()",
        "while not generator.is_done():",
        "    generator.generate_next_token()",
        '    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)',
        "print()",
    ]
    return "\n".join(lines) + "\n"


def _prompt(asked: Asked) -> list[str]:
    """Lines that make ``prompt``, and ``typed``, the places of it that a user has written."""
    if not asked.columns:
        written = f"sys.argv[1] if sys.argv[1:] else {asked.example!r}"
        return [f"prompt = {written}  # as the model's chat template writes it"]
    if len(asked.columns) == 1:
        values = f'{{{asked.columns[0]!r}: " ".join(sys.argv[1:]) or sys.exit(__doc__)}}'
    else:
        count = len(asked.columns) + 1
        given = f"sys.argv[1:] if len(sys.argv) == {count} else sys.exit(__doc__)"
        values = f"dict(zip({asked.columns!r}, {given}))"
    if not asked.controlled:
        terms = [f"values[{name!r}]" if name else repr(text) for text, name in asked.parts]
        return [f"values = {values}", f"prompt = {' + '.join(terms)}"]
    return [
        f"values = {values}",
        'prompt, typed = "", set()',
        f"for text, column in {asked.parts!r}:",
        "    begin, prompt = len(prompt), prompt + (values[column] if column else text)",
        "    typed |= set(range(begin, len(prompt))) if column else set()",
    ]


def _cut(asked: Asked) -> list[str]:
    """Lines that make ``pieces`` of a prompt, by the rule of ``data/control_tokens.py``."""
    file = f"(here / {prompt_file(asked.adapter)!r})"
    return [
        "# Where a text spells a control token the prompt is cut, so that it stays text.",
        f'controls = json.loads({file}.read_text(encoding="utf-8"))["control_tokens"]',
        'begins = "|".join(f"(?={re.escape(token)})" for token in controls)',
        "cuts = [m.start() + 1 for m in re.finditer(begins, prompt) if m.start() in typed]",
        "pieces = [prompt[a:b] for a, b in zip([0, *cuts], [*cuts, None]) if prompt[a:b]]",
    ]


def _behind(prefix: Sequence[int]) -> list[str]:
    if not prefix:
        return []
    return [f"tokens = tokens if tokens[:{len(prefix)}] == {prefix} else {prefix} + tokens"]


def _adapter(name: str) -> list[str]:
    if not name:
        return []
    return [
        "adapters = og.Adapters(model)",
        f"adapters.load(str(here / {adapter_file(name)!r}), {name!r})",
        f"generator.set_active_adapter(adapters, {name!r})",
    ]
