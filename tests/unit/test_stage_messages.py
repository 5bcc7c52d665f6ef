"""What comes out of a container is believed where it has the form of a stage's words."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from slmcompile.console.errors import CorruptError, Exit, SlmcompileError, all_of
from slmcompile.console.progress import Silent
from slmcompile.stages.context import Result
from slmcompile.stages.messages import Receiver, Sender, as_failed


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[Any] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, what: str, total: int) -> None:
        self.lines.append((what, total))

    def step(self, done: int, **fields: float | str) -> None:
        self.lines.append((done, fields))


def _told(*messages: Any) -> tuple[Receiver, Heard]:
    heard = Heard()
    receiver = Receiver(heard)
    for message in messages:
        receiver.feed(message if isinstance(message, bytes) else json.dumps(message).encode())
        receiver.feed(b"\n")
    return receiver, heard


def test_what_a_stage_says_and_gives_comes_out_as_it_is() -> None:
    ours, theirs = os.pipe()
    sender = Sender(theirs)
    given = Result({"a": 1}, {"loss": 0.1 + 0.2, "n": 2**60, "members": {"ö": [None]}}, None)
    sender.say("a line")
    sender.begin("step", 3)
    sender.step(1, loss=0.1 + 0.2, of="a")
    sender.end()
    sender.result(given)
    os.close(theirs)
    heard = Heard()
    receiver = Receiver(heard)
    while piece := os.read(ours, 7):
        receiver.feed(piece)
    os.close(ours)
    assert receiver.result == given
    assert heard.lines == ["a line", ("step", 3), (1, {"loss": 0.1 + 0.2, "of": "a"})]


def test_errors_keep_what_is_wrong_how_to_mend_it_and_their_exit_code() -> None:
    ours, theirs = os.pipe()
    one = SlmcompileError("one", "mend one", code=Exit.BAD_DATA)
    Sender(theirs).error(all_of([one, SlmcompileError("two", "mend two", code=Exit.MISSING)]))
    os.close(theirs)
    receiver = Receiver(Silent())
    receiver.feed(os.read(ours, 9999))
    os.close(ours)
    assert receiver.error is not None
    assert receiver.error.to_json() == one.to_json()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'["result", {"info": {}, "metrics": NaN, "plots": null}]',
        b'["result", {"info": {}, "info": {}, "metrics": null, "plots": null}]',
        b'["result", {"info": {}, "metrics": {"a": "\\ud800"}, "plots": null}]',
        b'["result", {"info": {}, "metrics": {"a": 1e999}, "plots": null}]',
        ["result", {"info": {}, "metrics": None}],
        ["result", {"info": [], "metrics": None, "plots": None}],
        ["result", {"info": {}, "metrics": [], "plots": None}],
        ["result", {"info": {}, "metrics": None, "plots": None, "more": 1}],
        ["error", {}],
        ["error", {"what": 1, "hint": "", "code": 1}],
        ["error", {"what": "", "hint": "", "code": 1, "also": [{}]}],
        ["error", {"what": "", "hint": "", "code": 1, "also": [1]}],
        ["begin", "what", -1],
        ["begin", "what", 1 << 60],
        ["step", 1.5, {}],
        ["step", 1],
        ["say", 1],
        ["say", "a", "b"],
        ["import", "os"],
        {"say": "a"},
        "say",
        None,
    ],
)
def test_what_is_no_message_is_damage(message: Any) -> None:
    with pytest.raises(CorruptError):
        _told(message)


def test_a_message_without_end_is_not_kept() -> None:
    receiver = Receiver(Silent())
    for _ in range(64):
        receiver.feed(b"a" * (1 << 20))
    with pytest.raises(CorruptError):
        receiver.feed(b"a")


def test_a_second_result_is_none() -> None:
    whole = {"info": {}, "metrics": None, "plots": None}
    with pytest.raises(CorruptError):
        _told(["result", whole], ["result", whole])


def test_lines_are_bounded_and_show_themselves() -> None:
    _, heard = _told(["say", "\n::add-mask::a\x1b[2J" + "x" * 9999])
    (line,) = heard.lines
    assert line.startswith("\\n::add-mask::a\\u001b[2J")
    assert len(line) == 500
    _, heard = _told(*[["say", str(number)] for number in range(3000)])
    assert len(heard.lines) == 2000
    assert heard.lines[-1] == "says more than is shown"
    fields = {"a\n": "b\x1b", "n": 10**4000, "b": True, "c": [], "d": 1.5}
    _, heard = _told(["step", 1, fields])
    assert heard.lines == [(1, {"a\\n": "b\\u001b", "b": 1.0, "d": 1.5})]


@pytest.mark.parametrize("number", [0, 2, 3.0, 99, -1, 10**30])
def test_an_error_ends_with_an_exit_code_that_errors_have(number: float) -> None:
    told = ["error", {"what": "a\n::b", "hint": "", "code": number}]
    if isinstance(number, float):
        with pytest.raises(CorruptError):
            _told(told)
        return
    receiver, _ = _told(told)
    assert receiver.error is not None
    assert receiver.error.code == Exit.STAGE_FAILED
    assert receiver.error.what == "a\\n::b"


def test_nobody_was_stopped_whom_nobody_stopped() -> None:
    assert as_failed(SlmcompileError("a", code=Exit.TERMINATED)).code == Exit.STAGE_FAILED
    assert as_failed(SlmcompileError("a", code=Exit.BAD_DATA)).code == Exit.BAD_DATA
