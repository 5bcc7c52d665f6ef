"""A proposal is shown whole and does nothing, whoever wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.ci.approval import approved, command
from slmcompile.ci.comment import LARGEST, MARKER, comment
from slmcompile.ci.proposal import LARGEST as LARGEST_DOCUMENT
from slmcompile.ci.proposal import (
    NO_BAR,
    CodeEntry,
    Forecast,
    Judged,
    KeyEntry,
    Problem,
    Proposal,
    RecipeEntry,
    StageEntry,
    read,
    to_json,
)
from slmcompile.cli.main import main
from slmcompile.console.errors import SlmcompileError
from tests.unit.test_report import Reader
from tests.unit.test_report import read as read_html

HEAD, BASE, TIP = ("1" * 40, "2" * 40, "3" * 40)
SHA = "a" * 64
HOSTILE = (
    "@team",
    "![x](http://e.example/beacon.png)",
    "<img src=http://e.example/x.png>",
    "[here](javascript:alert(1))",
    "</details></summary><script>alert(1)</script>",
    "```\n/train " + "f" * 64 + "\n```",
    "`| a | b |`",
    "<!-- slmcompile plan -->",
    "-->",
    "#12 GH-12 owner/repo#12 " + "d" * 40,
    "https://e.example www.e.example me@e.example",
    "\u202eevil\u200b\x1b[31m",
    ":octocat: $x$ &lt; \\",
    "\n/close\n/merge\n",
    "# heading\n===\n---\n> [!WARNING]\n1. x\n- [ ] x",
    "x" * 1000,
)


def entry(**changed: Any) -> RecipeEntry:
    values: dict[str, Any] = {
        "recipe": "quickstart",
        "status": "changed",
        "effective": SHA,
        "bars": (KeyEntry("gates", "exact_match of torch ≥ 0.8", "none", "recipes/q.yaml:9"),),
        "keys": (KeyEntry("train.learning_rate", "0.002", "0.001", "recipes/q.yaml:3"),),
        "stages": (
            StageEntry(
                "train",
                "train",
                "changed",
                ("train.learning_rate 0.002 → 0.001", "package torch 2.12 → 2.13"),
                "b" * 64,
                "c" * 64,
            ),
            StageEntry("answer-torch", "answer", "changed", (), "d" * 64, "e" * 64),
            StageEntry("export-x", "export", "removed", (), "f" * 64, None),
        ),
        "rows": True,
        "measured": True,
        "executes": (CodeEntry("losses/mine.py", SHA, changed=True),),
    }
    return RecipeEntry(**{**values, **changed})


def proposal(**changed: Any) -> Proposal:
    values: dict[str, Any] = {
        "tool": "1.0.0",
        "head": HEAD,
        "base": BASE,
        "recipes": (entry(),),
        "unchanged": 3,
        "refused": (),
        "policy": TIP,
        "judged": (Judged("quickstart", "usual-range", "odd", "lower it", 0),),
    }
    return Proposal(**{**values, **changed})


def everywhere(text: str) -> Proposal:
    """A proposal with a text wherever one may stand."""
    key = KeyEntry(text, text, text, text)
    stage = StageEntry("train", "train", "changed", (text, text), None, None)
    problem = Problem(text, text, 77)
    return proposal(
        recipes=(
            entry(
                bars=(key,),
                keys=(key, key),
                stages=(stage,),
                executes=(CodeEntry(text[:500] or "x", SHA, changed=False),),
                problem=problem,
            ),
        ),
        refused=(problem,),
        judged=(Judged("quickstart", "allowed", text, text, 77),),
    )


def written(found: Proposal) -> bytes:
    return json.dumps(to_json(found)).encode()


GOLDEN = Path(__file__).with_name("ci_comment.md")


def test_a_comment_says_what_changes_and_how_to_approve() -> None:
    assert comment(proposal()) == GOLDEN.read_text(encoding="utf-8").replace(
        "{digest}", proposal().digest
    )


OURS = re.compile(
    r"|<!-- slmcompile plan -->|#{2,3} [A-Z a-z,]+|- .*|</details>"
    r"|<details(?: open)?><summary>.*</summary>"
    r"|```|/train [0-9a-f]{64}|<code>1{12}</code> against .*|To train it, .*|Nothing can be .*"
    r"|\*\*\d+ more lines .*|\d+ more findings .*"
)


def rendered(source: str) -> Reader:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return read_html(parser.render(source))


def check_does_nothing(text: str) -> None:
    """No line, tag, attribute or link of a comment comes out of a text in it."""
    shown = comment(everywhere(text))
    assert all(OURS.fullmatch(line) for line in shown.split("\n"))
    assert shown.startswith(f"{MARKER}\n")
    assert shown.count(MARKER) == 1
    reader = rendered(shown)
    assert {tag for tag, _ in reader.tags} <= {
        "h2", "h3", "p", "ul", "li", "code", "strong", "details", "summary", "pre",
    }  # fmt: skip
    assert [each for each in reader.tags if each[1]] == [("details", {"open": None})]
    outside = re.sub(r"<code>.*?</code>", "", shown)
    assert not re.search(r"@|#\d|https?:|www\.|:\w+:|!\[", outside)
    inside = "\n".join(re.findall(r"<code>(.*?)</code>", shown)).replace("<!-- -->", "\0")
    plain = re.sub(r"&(#\d+|\w+);", "\0", inside)
    assert not re.search(r"[@#]\w|://|www\.|GH-\d|[<>&`*\[\]|]", plain)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_a_stranger_does_nothing(text: str) -> None:
    check_does_nothing(text)


@settings(deadline=None)
@given(st.text(alphabet="`|*_[]()<>#@!\\~$&:/-+=.1 \nawGH\u202e\x1b", max_size=40))
def test_no_text_does_anything(text: str) -> None:
    check_does_nothing(text)


def leaves(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the plain values of JSON lie."""
    if not isinstance(value, dict | list):
        return [at]
    below = value.items() if isinstance(value, dict) else enumerate(value)
    return [path for key, each in below for path in leaves(each, (*at, key))]


def other(value: Any) -> Any:
    """Another value that may stand in its place."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value is None:
        return "9" * 64
    if re.fullmatch("[0-9a-f]{40,64}", value):
        return value[:-1] + ("1" if value[-1] == "0" else "0")
    words = dict.fromkeys(("train", "answer", "export"), "score")
    return (words | {"changed": "added", "removed": "added"}).get(value, f"{value}x")


def test_all_that_is_shown_to_approve_of_is_in_the_digest() -> None:
    content = json.loads(written(proposal(refused=(Problem("a", "b", 77),))))
    beside = {"format_version", "digest", "policy", "judged"}
    paths = [path for path in leaves(content) if path[0] not in beside and path[-1] != "problem"]
    assert len(paths) > 30
    seen = {proposal(refused=(Problem("a", "b", 77),)).digest}
    for path in paths:
        changed = json.loads(json.dumps(content))
        *above, last = path
        place = changed
        for key in above:
            place = place[key]
        place[last] = other(place[last])
        seen.add(read(json.dumps(changed).encode(), "x").digest)
    assert len(seen) == len(paths) + 1


def test_what_a_machine_found_is_in_no_digest() -> None:
    assert proposal().digest == proposal(policy=BASE, judged=()).digest


def test_a_document_that_says_another_thing_shows_another_digest() -> None:
    """Its author knows the digest of what he wants to have trained, and shows something else."""
    true = proposal()
    false = to_json(true) | {"digest": true.digest}
    false["recipes"][0]["bars"] = []
    shown = comment(read(json.dumps(false).encode(), "x"))
    assert "takes the bar" not in shown
    assert true.digest not in shown


def many(number: int, **changed: Any) -> tuple[RecipeEntry, ...]:
    return tuple(entry(recipe=f"r{at:04}", **changed) for at in range(number))


def test_a_hundred_recipes_of_one_cause_fit() -> None:
    stages = entry().stages[:2]
    found = proposal(
        recipes=many(100, bars=(), executes=(), rows=False, measured=False, stages=stages)
    )
    shown = comment(found)
    assert len(shown) < LARGEST
    assert shown.count("<summary>") == 100
    assert command(found.digest) in shown


@pytest.mark.parametrize(
    "found",
    [
        proposal(recipes=many(500)),
        proposal(recipes=(entry(keys=(KeyEntry("k" * 300, "o" * 300, "n" * 300),) * 300),)),
        proposal(recipes=(entry(executes=(CodeEntry("x" * 300, SHA, changed=True),) * 256),)),
    ],
)
def test_what_cannot_be_shown_whole_cannot_be_approved(found: Proposal) -> None:
    shown = comment(found)
    assert len(shown) <= LARGEST
    assert "/train" not in shown
    assert re.search(r"\*\*\d+ more lines do not fit", shown)


def test_findings_that_do_not_fit_keep_nobody_from_approving() -> None:
    found = proposal(judged=(Judged("quickstart", "odd", "e" * 300, "h" * 300, 0),) * 1000)
    shown = comment(found)
    assert len(shown) <= LARGEST
    assert command(found.digest) in shown
    assert re.search(r"\d+ more findings do not fit", shown)


@pytest.mark.parametrize(
    "changed",
    [
        {"refused": (Problem("x", "y", 77),)},
        {"recipes": (entry(status="refused", problem=Problem("x", "y", 78)),)},
        {"judged": (Judged("quickstart", "allowed", "x", "y", 77),)},
        {"recipes": ()},
        {"recipes": (entry(status="removed", bars=(), keys=(), rows=False, measured=False),)},
    ],
)
def test_what_cannot_run_has_no_line_to_approve_by(changed: dict[str, Any]) -> None:
    assert "/train" not in comment(proposal(**changed))


Edit = Callable[[dict[str, Any]], Any]


def edited(change: Edit) -> bytes:
    content = json.loads(written(proposal()))
    change(content)
    return json.dumps(content).encode()


def first(content: dict[str, Any]) -> dict[str, Any]:
    recipe: dict[str, Any] = content["recipes"][0]
    return recipe


def deep(content: dict[str, Any]) -> None:
    content["x"] = json.loads("[" * 50 + "]" * 50)


def at(key: str, value: Any, *above: str | int) -> bytes:
    """The document with another value at a key, below others."""

    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for each in above:
            place = place[each]
        place[key] = value

    return edited(change)


COUNT = b'"unchanged": 3'
RECIPE = ("recipes", 0)
DOCUMENTS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "another thing": b"[1]",
    "not UTF-8": b'{"format_version": "1.0", "x": "\xff"}',
    "too large": b" " * (LARGEST_DOCUMENT + 1),
    "deep": b"[" * 100_000,
    "deep below a key": edited(deep),
    "of many values": at("x", [0] * 200_000),
    "NaN": written(proposal()).replace(COUNT, b'"unchanged": NaN'),
    "an infinite count": written(proposal()).replace(COUNT, b'"unchanged": 1e999'),
    "a negative count": at("unchanged", -1),
    "a count that is text": at("unchanged", "3"),
    "a name with markup": at("recipe", "<b>", *RECIPE),
    "a status of its own": at("status", "**ok**", *RECIPE),
    "a kind of its own": at("kind", "x", *RECIPE, "stages", 0),
    "a stage with markup": at("stage", "`", *RECIPE, "stages", 0),
    "a commit that is none": at("head", "HEAD"),
    "a commit with a line behind": at("head", f"{HEAD}\n"),
    "a hash that is none": at("sha256", "x", *RECIPE, "executes", 0),
    "a check with markup": at("check", "</code>", "judged", 0),
    "a text without end": at("new", "x" * 1001, *RECIPE, "keys", 0),
    "a code that is none": at("code", 999, "judged", 0),
    "a recipe twice": edited(lambda content: content["recipes"].append(first(content))),
    "without recipes": edited(lambda content: content.pop("recipes")),
}
LATER = {"a version that is none": at("format_version", []), "2.0": at("format_version", "2.0")}


@pytest.mark.parametrize("name", [*DOCUMENTS, *LATER])
def test_what_is_no_proposal_is_refused_in_two_lines(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.json").write_bytes((DOCUMENTS | LATER)[name])
    assert main(["ci", "comment", str(tmp_path / "p.json")]) == (4 if name in LATER else 74)
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 2


def test_a_document_behind_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_bytes(written(proposal()))
    (tmp_path / "p.json").symlink_to("there.json")
    assert main(["ci", "comment", str(tmp_path / "p.json")]) == 77
    assert main(["ci", "comment", str(tmp_path / "none.json")]) == 64


def test_a_later_minor_version_is_read_and_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = edited(lambda content: content.update(format_version="1.7", more={"x": 1}))
    assert read(data, "x") == proposal()
    (tmp_path / "p.json").write_bytes(data)
    assert main(["ci", "comment", str(tmp_path / "p.json")]) == 0
    assert capsys.readouterr().out == comment(proposal())


def test_the_whole_command_approves_and_nothing_else_does() -> None:
    digest = proposal().digest
    assert approved(command(digest)) == digest
    assert approved(f"  {command(digest)}\r\n") == digest


@pytest.mark.parametrize(
    "text",
    [
        "/train",
        "/train {0}0",
        "/train " + "a" * 63,
        "/train " + "A" * 64,
        "/train " + "a" * 12,
        "train {0}",
        "> /train {0}",
        "`/train {0}`",
        "```\n/train {0}\n```",
        "please /train {0}",
        "/train {0}\nthank you",
        "/train {0} /train {0}",
        "/trains {0}",
        "/train\n{0}",
        "/train \u0661" + "a" * 63,
        "/train {0}" + " " * 1000,
    ],
)
def test_words_around_the_command_approve_of_nothing(text: str) -> None:
    assert approved(text.format(proposal().digest)) is None


def test_our_own_comment_approves_of_nothing() -> None:
    assert approved(comment(proposal())) is None


def test_a_proposal_reads_back_as_it_was_written() -> None:
    assert read(written(proposal()), "x") == proposal()
    with pytest.raises(SlmcompileError):
        read(written(proposal())[:-1], "x")


def test_what_brings_its_statement_says_that_nothing_has_to_be_approved() -> None:
    """Believed by nobody: the line to approve by stands there all the same."""
    trained = Forecast("quickstart", stages=2, finished=0, stated=True)
    shown = comment(proposal(forecast=(trained,)))
    assert "To train it, unless it is trained already as it says below, somebody" in shown
    assert "nothing has to be approved again" in shown
    assert command(proposal().digest) in shown
    both = proposal(recipes=(entry(), entry(recipe="x")), forecast=(trained,))
    assert "unless" not in comment(both)


def test_many_recipes_are_folded() -> None:
    assert comment(proposal(recipes=many(3))).count("<details open>") == 3
    assert comment(proposal(recipes=many(4))).count("<details>") == 4


def test_a_bar_that_goes_is_told_from_one_that_comes() -> None:
    bars = (KeyEntry("gates", "a ≥ 1", NO_BAR), KeyEntry("gates", NO_BAR, "a ≥ 2"))
    shown = comment(proposal(recipes=(entry(bars=bars),)))
    assert "**takes the bar** <code>a ≥ 1</code> **away**; it holds until this is merged" in shown
    assert "adds the bar <code>a ≥ 2</code>" in shown
    added = comment(proposal(recipes=(entry(status="added", bars=bars[1:]),)))
    assert "has the bar <code>a ≥ 2</code>" in added


def test_stages_of_one_reason_are_one_line() -> None:
    stages = tuple(
        StageEntry(name, name, "changed", ("rows changed",), None, None)
        for name in ("check", "gate")
    )
    shown = comment(proposal(recipes=(entry(stages=stages),)))
    assert "- <code>check</code>, <code>gate</code>: <code>rows changed</code>\n" in shown
