"""The data sets that travel with the recipes are what their pages say."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slmcompile.data.row_keys import Item, keys_of
from slmcompile.data.split import assign
from slmcompile.recipe.compose import compose
from slmcompile.recipe.project import Project
from tests.projects import REPOSITORY


def rows_of(path: str) -> list[dict[str, Any]]:
    text = (REPOSITORY / "data" / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def tone() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "data/tone/make.py"))


@pytest.fixture(scope="module")
def titles() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "data/titles/make.py"))


@pytest.mark.parametrize("name", ["tone", "titles", "voice-intents"])
def test_each_has_its_page_and_notice_and_stays_small(name: str) -> None:
    folder = REPOSITORY / "data" / name
    assert {"README.md", "NOTICE", "make.py"} <= {path.name for path in folder.iterdir()}
    assert sum(path.stat().st_size for path in folder.glob("*.*")) < 1 << 20


def test_held_out_sentences_are_new_and_of_templates_that_the_quickstart_only_tests() -> None:
    rows, more = rows_of("voice-intents/commands.jsonl"), rows_of("voice-intents/held_out.jsonl")
    config = compose(Project(REPOSITORY), "quickstart", []).recipe.data
    wanted = {"validation": config.split.validation, "test": config.split.test}
    items = [Item(row["text"], row["intent"], row["template"]) for row in rows]
    splits = assign(
        keys_of(items, config.seed),
        {"train": 1.0 - sum(wanted.values()), **wanted},
        config.seed,
        cover=True,
    )
    seen = {row["template"] for row, split in zip(rows, splits, strict=True) if split != "test"}
    tested = {row["template"] for row, split in zip(rows, splits, strict=True) if split == "test"}
    assert Counter(splits) == {"train": 1675, "validation": 219, "test": 196}
    assert {row["template"] for row in more} <= tested - seen
    assert len({row["text"] for row in more} - {row["text"] for row in rows}) == len(more) == 1500
    page = (REPOSITORY / "data/voice-intents/README.md").read_text(encoding="utf-8")
    counts = Counter(row["template"] for row in more)
    full, fewer = (sum((n >= 31) is most for n in counts.values()) for most in (True, False))
    assert f"so {full} have 31 or 32 sentences each; {fewer} have fewer" in page


def test_a_tone_is_that_of_its_rating_and_in_the_shares_of_the_page() -> None:
    rows = rows_of("tone/messages.jsonl")
    for row in rows:
        if abs(abs(row["rating"]) - 0.5) > 0.005:  # the rating is rounded, the label is not
            sign = "positive" if row["rating"] > 0 else "negative"
            assert row["tone"] == (sign if abs(row["rating"]) > 0.5 else "neutral"), row
    page = (REPOSITORY / "data/tone/README.md").read_text(encoding="utf-8")
    counts = Counter(row["tone"] for row in rows)
    assert f"{counts['positive']:,} positive, {counts['negative']} negative" in page
    assert f"{counts['neutral']} neutral" in page


def test_no_message_is_a_variant_of_another_or_what_was_to_be_left_out(
    tone: dict[str, Any],
) -> None:
    rows = rows_of("tone/messages.jsonl")
    found = [tone["Message"](row["id"], row["rating"], row["text"]) for row in rows]
    why_not: Counter[str] = Counter()
    left = list(
        tone["different"](tone["kept"](sorted(found, key=lambda m: m.number), why_not), why_not)
    )
    assert len(left) == len(rows)
    assert not why_not
    variants = [
        tone["Message"](1, -2, "Stupid rain, again"),
        tone["Message"](2, -3, "STUPID rain again!!"),
    ]
    assert len(list(tone["different"](variants, why_not))) == 1


def test_a_summary_is_not_in_the_code_that_it_tells_of() -> None:
    rows = rows_of("titles/functions.jsonl")
    assert len({row["summary"].lower() for row in rows}) == len(rows)
    for row in rows:
        assert row["summary"].rstrip(".") not in row["code"], row
        assert '"""' not in row["code"].split("\n", 1)[1][:20], row
        compile(row["code"], row["module"], "exec", dont_inherit=True)


def test_files_with_a_copyright_of_others_are_not_read(
    titles: dict[str, Any], tmp_path: Path
) -> None:
    source = (
        "def area(width: float, height: float) -> float:\n"
        '    """Return the area of a rectangle."""\n'
        "    return width * height\n"
    )
    (tmp_path / "mine.py").write_text("# Copyright (C) 2001 Jane Doe\n" + source, encoding="utf-8")
    theirs = "# Copyright (C) 2001 Python Software Foundation\n" + source
    (tmp_path / "shapes.py").write_text(theirs, encoding="utf-8")
    with pytest.raises(SystemExit, match="not the library of CPython"):
        titles["files"](tmp_path)
    assert titles["FOREIGN"].search((tmp_path / "mine.py").read_text(encoding="utf-8"))
    assert not titles["FOREIGN"].search(theirs)
    (row,) = titles["rows_of"]("shapes.py", theirs)
    assert row.summary == "Return the area of a rectangle."
    assert row.code == (
        "def area(width: float, height: float) -> float:\n    return width * height"
    )
