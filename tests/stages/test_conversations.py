"""Conversations in every usual form: what a row says is trained or refused, never dropped."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmcompile.base.layout import complete
from slmcompile.console.errors import BadDataError, BadRecipeError
from slmcompile.data.prompt import prompt_pieces
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import load_tokenizer
from slmcompile.scoring.bits_per_byte import trained_bytes
from tests.data_stage import Prepared, make_config, write_jsonl
from tests.tiny_model import make_base
from tests.tiny_tokenizer import CHATML, REASONING, make_tokenizer

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"town": "string"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"town": "X"}}}
WRITTEN_CALL = '<tool_call>{"name": "weather", "arguments": {"town": "X"}}</tool_call>'


def user(n: int) -> dict[str, Any]:
    return {"role": "user", "content": f"say {n}"}


def assistant(text: str | None = None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def prepared(
    tmp_path: Path,
    row: Callable[[int], list[dict[str, Any]] | dict[str, Any]],
    *,
    chat_template: str = CHATML,
    more: tuple[str, ...] = (),
    template: dict[str, Any] | None = None,
    **changes: Any,
) -> Prepared:
    """20 rows through the data stage."""
    base = make_tokenizer(tmp_path / "base", chat_template=chat_template, more=more)
    values = [row(n) for n in range(20)]
    rows = [each if isinstance(each, dict) else {"messages": each} for each in values]
    write_jsonl(tmp_path / "project", rows)
    config = make_config(
        template={"type": "messages", **(template or {})}, label=None, task="generation", **changes
    )
    return Prepared(tmp_path, config, base)


def trained(done: Prepared, tmp_path: Path, number: int = 0) -> str:
    """The trained text of an example, from its ids."""
    return decoded(next(row for row in done.rows if row.id == number), tmp_path)


def decoded(row: Row, tmp_path: Path) -> str:
    ids = [token for token in row.labels if token != IGNORED]
    return load_tokenizer(tmp_path / "base").decode(ids, skip_special_tokens=False)


SAME: dict[str, Callable[[int], Any]] = {
    "sharegpt": lambda n: [
        {"from": "human", "value": f"say {n}"},
        {"from": "gpt", "value": f"it is {n}"},
    ],
    "text parts": lambda n: [
        {"role": "user", "content": [{"type": "text", "text": "say "}, {"text": str(n)}]},
        assistant([{"type": "text", "text": f"it is {n}"}]),  # type: ignore[arg-type]
    ],
    "json text": lambda n: {"messages": json.dumps([user(n), assistant(f"it is {n}")])},
    "fields that say nothing": lambda n: [
        {**user(n), "tool_calls": None, "name": None},
        assistant(f"it is {n}", tool_calls=[], refusal=None),
    ],
    "weight 1": lambda n: [user(n), assistant(f"it is {n}", weight=1, train=True)],
}


@pytest.mark.parametrize("form", SAME)
def test_usual_forms_of_messages_give_the_same_ids(tmp_path: Path, form: str) -> None:
    (tmp_path / "plain").mkdir()
    plain = prepared(tmp_path / "plain", lambda n: [user(n), assistant(f"it is {n}")])
    done = prepared(tmp_path, SAME[form])
    assert trained(done, tmp_path, 3) == "it is 3<|im_end|>"
    assert [row.input_ids for row in done.rows] == [row.input_ids for row in plain.rows]
    assert [row.labels for row in done.rows] == [row.labels for row in plain.rows]
    assert done.report["facts"]["same_ids"] == plain.report["facts"]["same_ids"]


def test_another_column_of_sharegpt_is_named(tmp_path: Path) -> None:
    done = prepared(
        tmp_path,
        lambda n: {"conversations": SAME["sharegpt"](n)},
        template={"column": "conversations"},
    )
    assert done.prompt["columns"] == ["conversations"]
    (served,) = prompt_pieces(done.prompt, {"conversations": "say 7"})
    assert served in {row.prompt for row in done.rows}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"weight": 0.0}])
def test_a_turn_that_the_row_says_not_to_train_is_not(tmp_path: Path, mark: dict[str, Any]) -> None:
    done = prepared(
        tmp_path, lambda n: [user(n), assistant("bad", **mark), user(n), assistant(f"good {n}")]
    )
    assert trained(done, tmp_path, 4) == "good 4<|im_end|>"
    assert "assistant\nbad<|im_end|>" in next(row.prompt for row in done.rows if row.id == 4)
    assert done.report["conversations"]["untrained"] == 20
    assert done.report["notes"] == done.progress.lines[1:2]
    assert done.report["notes"][0].startswith("20 assistant turns are not trained")


def test_a_conversation_ends_with_its_last_trained_turn(tmp_path: Path) -> None:
    done = prepared(
        tmp_path, lambda n: [user(n), assistant(f"good {n}"), user(n), assistant("bad", weight=0)]
    )
    assert trained(done, tmp_path, 4) == "good 4<|im_end|>"
    assert not any("bad" in row.prompt for row in done.rows)
    assert done.report["conversations"]["cut"] == 20


@pytest.mark.parametrize("every", [True, False])
def test_bytes_are_those_of_every_trained_turn_and_of_no_stop_token(
    tmp_path: Path, every: bool
) -> None:
    first = {} if every else {"weight": 0}
    done = prepared(
        tmp_path, lambda n: [user(n), assistant(f"né {n}", **first), user(n), assistant(f"où {n}!")]
    )
    tokenizer = load_tokenizer(tmp_path / "base")
    for row in done.rows:
        told = len(f"né {row.id}".encode()) * every + len(f"où {row.id}!".encode())
        assert trained_bytes(row, tokenizer) == told
        assert row.trained_turns == 1 + every
        assert decoded(row, tmp_path).count("<|im_end|>") == 1 + every


REFUSED: dict[str, tuple[Callable[[int], Any], str]] = {
    "calls beside a text": (
        lambda n: [user(n), assistant("I look", tool_calls=[CALL])],
        "message 1: tool_calls is not written by the model's chat template",
    ),
    "calls alone": (
        lambda n: [user(n), assistant(None, tool_calls=[CALL])],
        "message 1: tool_calls is not written by the model's chat template",
    ),
    "reasoning": (
        lambda n: [user(n), assistant("5", reasoning_content="hm")],
        "message 1: reasoning_content is not written",
    ),
    "thinking": (
        lambda n: [user(n), assistant("5", thinking="hm")],
        "message 1: thinking is not written",
    ),
    "a name": (
        lambda n: [{**user(n), "name": "ann"}, assistant("5")],
        "message 0: name is not written",
    ),
    "a field of its own": (
        lambda n: [user(n), assistant("5", mood="good")],
        "message 1: mood is not written",
    ),
    "tools": (
        lambda n: {"messages": [user(n), assistant("5")], "tools": [WEATHER]},
        "the column of tools is not written",
    ),
    "nothing to train": (
        lambda n: [user(n), assistant("5", weight=0)],
        "no turn of the assistant is trained",
    ),
    "a part of a weight": (
        lambda n: [user(n), assistant("5", weight=0.5)],
        "message 1 has weight 0.5",
    ),
    "a picture": (
        lambda n: [
            {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]},
            assistant("5"),
        ],
        "message 0: its content has a part of type 'image_url'",
    ),
    "no role": (lambda n: [{"role": "bot", "content": "x"}, assistant("5")], "has role 'bot'"),
    "half a json": (lambda n: {"messages": "[{'role'"}, "is text, and not the JSON of a list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_lost_is_refused_with_row_and_message(tmp_path: Path, case: str) -> None:
    row, says = REFUSED[case]
    usual = [user(1), assistant("usual")]
    with pytest.raises(BadDataError) as raised:
        prepared(tmp_path, lambda n: row(n) if n == 7 else usual)
    assert raised.value.what.startswith("rows.jsonl:8: ")
    assert says in raised.value.what
    assert raised.value.mend


@pytest.mark.parametrize("arguments", [{"town": "X"}, '{"town": "X"}'], ids=["object", "text"])
@pytest.mark.parametrize("text", [None, "I look"])
def test_calls_are_trained_and_tools_are_offered(
    tmp_path: Path, text: str | None, arguments: Any
) -> None:
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    done = prepared(
        tmp_path,
        lambda n: {
            "messages": [
                user(n),
                assistant(text, tool_calls=[call]),
                {"role": "tool", "tool_call_id": "1", "name": "weather", "content": f"{n} degrees"},
                assistant(f"it is {n}"),
            ],
            "tools": json.dumps([WEATHER]) if n % 2 else [WEATHER],
        },
        chat_template=REASONING,
    )
    row = next(row for row in done.rows if row.id == 0)
    assert decoded(row, tmp_path) == f"{text or ''}{WRITTEN_CALL}<|im_end|>it is 0<|im_end|>"
    assert json.dumps(WEATHER) in row.prompt
    assert "<|im_start|>tool\n0 degrees<|im_end|>" in row.prompt


def test_reasoning_is_trained_where_the_template_writes_it(tmp_path: Path) -> None:
    done = prepared(
        tmp_path,
        lambda n: [user(n), assistant(f"it is {n}", reasoning_content=f"hm {n}")],
        chat_template=REASONING,
    )
    assert trained(done, tmp_path, 2) == "<think>\nhm 2\n</think>\n\nit is 2<|im_end|>"
    assert done.prompt["enable_thinking"] is True
    assert "<think>" not in "".join(prompt_pieces(done.prompt, {"messages": "say 2"}))
    assert (
        "answers hold reasoning: the chat template's enable_thinking is on"
        in (done.report["notes"])
    )


def test_reasoning_within_the_text_uses_the_tokens_of_the_model(tmp_path: Path) -> None:
    """Qwen 3 has a token for each mark; a text that spells them is refused elsewhere."""
    marks = ("<think>", "</think>")
    done = prepared(
        tmp_path,
        lambda n: [user(n), assistant(f"<think>\nhm {n}\n</think>\n\nit is {n}")],
        chat_template=REASONING,
        more=marks,
    )
    assert trained(done, tmp_path, 2) == "<think>\nhm 2\n</think>\n\nit is 2<|im_end|>"
    row = done.rows[0]
    known = load_tokenizer(tmp_path / "base")(list(marks), add_special_tokens=False)["input_ids"]
    assert [token for token in row.labels if [token] in known] == [ids[0] for ids in known]


def test_without_reasoning_the_empty_think_block_is_the_prompts(tmp_path: Path) -> None:
    done = prepared(tmp_path, lambda n: [user(n), assistant(f"it is {n}")], chat_template=REASONING)
    assert trained(done, tmp_path, 2) == "it is 2<|im_end|>"
    assert done.rows[0].prompt.endswith("<think>\n\n</think>\n\n")
    assert done.prompt["enable_thinking"] is False


def test_a_turn_that_is_written_otherwise_later_on_is_an_example_of_its_own(
    tmp_path: Path,
) -> None:
    done = prepared(
        tmp_path,
        lambda n: [user(n), assistant(f"one {n}"), user(n + 100), assistant(f"two {n}")],
        chat_template=REASONING,
    )
    assert len(done.rows) == 40
    assert trained(done, tmp_path, 6) == "one 3<|im_end|>"
    assert trained(done, tmp_path, 7) == "two 3<|im_end|>"
    later = next(row for row in done.rows if row.id == 7)
    assert "<|im_start|>assistant\none 3<|im_end|>" in later.prompt
    where = defaultdict(set)
    for split, rows in done.splits.items():
        for row in rows:
            where[row.id // 2].add(split)
    assert {len(splits) for splits in where.values()} == {1}
    assert done.report["conversations"]["one_a_turn"] == 20
    assert (
        "20 conversations became 40 examples, one for each trained turn"
        in (done.report["notes"][0])
    )


def test_named_templates_are_chosen_as_transformers_chooses_them(tmp_path: Path) -> None:
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": REASONING}]
    done = prepared(
        tmp_path,
        lambda n: {
            "messages": [user(n), assistant("yes")],
            "tools": [WEATHER] if n % 2 else None,
        },
        chat_template=named,  # type: ignore[arg-type]
    )
    prompts = {row.id: row.prompt for row in done.rows}
    assert all(("weather" in prompts[n]) == bool(n % 2) for n in range(20))


@pytest.mark.parametrize("nothing", [None, [], "[]", " [ ] ", "null"])
def test_a_row_without_tools_or_calls_may_say_so(tmp_path: Path, nothing: Any) -> None:
    """As such or as JSON text, where the template would write neither."""
    done = prepared(
        tmp_path,
        lambda n: {
            "messages": [user(n), assistant("yes", tool_calls=nothing)],
            "tools": nothing,
        },
    )
    assert trained(done, tmp_path, 3) == "yes<|im_end|>"


def test_templates_without_a_default_are_named(tmp_path: Path) -> None:
    named = [{"name": "rag", "template": CHATML}, {"name": "tool_use", "template": CHATML}]
    with pytest.raises(BadRecipeError, match="rag, tool_use"):
        prepared(tmp_path, lambda n: [user(n), assistant("yes")], chat_template=named)  # type: ignore[arg-type]


def test_a_processors_chat_template_is_read(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    config = json.loads((base / "tokenizer_config.json").read_text())
    text = config.pop("chat_template", None) or (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").unlink(missing_ok=True)
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(base).chat_template is None
    (base / "chat_template.json").write_text(json.dumps({"chat_template": text}))
    complete(base, "model")
    assert load_tokenizer(base).chat_template == text


def test_what_the_template_puts_before_every_answer_is_said(tmp_path: Path) -> None:
    done = prepared(
        tmp_path,
        lambda n: [user(n), assistant("yes")],
        chat_template=CHATML.split("{% if add_generation_prompt")[0],
    )
    assert done.report["notes"] == [
        "every answer begins with '<|im_start|>assistant', which the chat template does not write"
        " into the prompt"
    ]


def test_a_date_in_the_template_is_always_the_same_and_said(tmp_path: Path) -> None:
    done = prepared(
        tmp_path,
        lambda n: [user(n), assistant("yes")],
        chat_template="{{ strftime_now('%d %B %Y') + '\n' }}" + CHATML,
    )
    assert done.rows[0].prompt.startswith("26 July 2024\n")
    assert "every prompt has 26 July 2024 there" in done.report["notes"][0]
