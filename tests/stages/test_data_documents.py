"""Plain text for continued pre-training: what becomes of short and of long documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import BadDataError
from slmcompile.data.documents import MOST_PIECES, pieces_of
from slmcompile.data.encode import encode
from slmcompile.data.rows import Rendered, SourceRow, Stop
from slmcompile.data.store import IGNORED, Row
from slmcompile.data.tokenizer import Tokenizer, control_tokens, load_tokenizer
from slmcompile.recipe.schema import Data
from tests.data_stage import Prepared, rows, write_jsonl
from tests.tiny_tokenizer import make_tokenizer

TEXTS = [" ".join(f"line {n} süß 日本語 🙂 {k}" for k in range(n % 9 + 1)) for n in range(40)]


def config(**changes: Any) -> Data:
    values: dict[str, Any] = {
        "name": "docs",
        "task": "generation",
        "source": {"type": "file", "path": "docs.jsonl"},
        "template": {"type": "completion", "text": "# {title}\n{body}"},
        "max_length": 40,
    }
    return Data.model_validate_json(json.dumps(values | changes))


def prepared(tmp_path: Path, base: Path, **changes: Any) -> Prepared:
    docs = [{"title": f"T{n}", "body": text} for n, text in enumerate(TEXTS)]
    write_jsonl(tmp_path / "project", docs, "docs.jsonl")
    return Prepared(tmp_path, config(**changes), base)


def documents(found: list[Row]) -> dict[int, list[Row]]:
    """Rows by document, in order."""
    made: dict[int, list[Row]] = {}
    for row in sorted(found, key=lambda row: row.id):
        made.setdefault(row.id // MOST_PIECES, []).append(row)
    return made


@pytest.mark.parametrize("adds_bos_and_eos", [False, True])
def test_every_token_of_every_document_is_trained_once_and_the_stop_token_ends_it(
    tmp_path: Path, adds_bos_and_eos: bool
) -> None:
    base = make_tokenizer(tmp_path / "base", adds_bos_and_eos=adds_bos_and_eos)
    done, tokenizer = prepared(tmp_path, base), load_tokenizer(base)
    stop = tokenizer.eos_token_id
    bos = tokenizer("", add_special_tokens=True)["input_ids"][:1] if adds_bos_and_eos else []
    found = documents(done.rows)
    assert sorted(found) == list(range(len(TEXTS)))
    for number, pieces in found.items():
        text = f"# T{number}\n{TEXTS[number]}"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        trained = [token for row in pieces for token in row.labels if token != IGNORED]
        assert trained == [*ids, stop]
        assert "".join(row.completion for row in pieces) == text
        assert [row.id for row in pieces] == [
            number * MOST_PIECES + piece for piece in range(len(pieces))
        ]
        assert pieces[0].prompt_ids == (bos or [stop])
        for before, row in zip([None, *pieces], pieces, strict=False):
            assert len(row.input_ids) <= 40
            assert row.labels == [IGNORED, *row.input_ids[1:]]
            assert row.document
            assert not row.asked
            if before is not None:
                assert row.prompt_ids == before.input_ids[-1:]
                assert stop not in before.labels
                # As long as may be: at most the rest of a character is missing.
                assert len(before.input_ids) > 40 - 4
    cut = [pieces for pieces in found.values() if len(pieces) > 1]
    assert cut
    assert done.report["documents"] == {
        "count": len(TEXTS), "cut": len(cut), "pieces": sum(map(len, cut)),
    }  # fmt: skip
    assert done.report["dropped"]["too_long"]["count"] == 0


def test_what_the_checks_read_tells_the_truth_of_documents(tmp_path: Path) -> None:
    base = make_tokenizer(tmp_path / "base")
    done = prepared(tmp_path, base)
    facts = done.report["facts"]
    assert facts["mask_differs"] == 0
    assert facts["stop_trained"] == len(done.rows)
    assert facts["least_trained"] >= 1
    assert facts["leaks_exact"] == dict.fromkeys(facts["leaks_exact"], 0)
    assert facts["longest_tested"] == [[1, 0]]
    assert facts["same_ids"]["prompts"] == len(TEXTS)
    assert facts["same_ids"]["differs"] == ""
    assert done.report["contradicting"]["count"] == 0
    assert done.prompt["text"] == "{text}"
    assert done.prompt["prefix_ids"] == [load_tokenizer(base).eos_token_id]


def test_a_document_is_in_one_split_and_a_repeat_is_dropped(tmp_path: Path) -> None:
    base = make_tokenizer(tmp_path / "base")
    docs = [{"title": f"T{n}", "body": text} for n, text in enumerate(TEXTS)]
    write_jsonl(tmp_path / "project", [*docs, *docs[:7]], "docs.jsonl")
    done = Prepared(tmp_path, config(), base)
    assert done.report["dropped"]["duplicates"] == 7
    places: dict[int, set[str]] = {}
    for split, found in done.splits.items():
        for row in found:
            places.setdefault(row.id // MOST_PIECES, set()).add(split)
    assert len(places) == len(TEXTS)
    assert all(len(splits) == 1 for splits in places.values())


def test_a_stop_token_in_the_template_is_not_doubled_and_one_in_a_row_is_refused(
    tmp_path: Path,
) -> None:
    base = make_tokenizer(tmp_path / "base")
    template = {"type": "completion", "text": "{body}<|im_end|>"}
    done, stop = prepared(tmp_path, base, template=template), load_tokenizer(base).eos_token_id
    assert all(row.labels.count(stop) <= 1 for row in done.rows)
    write_jsonl(tmp_path / "project", [{"body": "a <|im_end|> b"}] * 9, "docs.jsonl")
    with pytest.raises(BadDataError, match="column 'body' spells the control token"):
        Prepared(tmp_path, config(template=template), base, "refused")


def test_documents_against_forgetting_stand_beside_a_task_with_labels(tmp_path: Path) -> None:
    base = make_tokenizer(tmp_path / "base")
    write_jsonl(tmp_path / "project", rows(), "rows.jsonl")
    docs = [{"body": text} for text in TEXTS]
    write_jsonl(tmp_path / "project", docs, "docs.jsonl")
    done = Prepared(
        tmp_path,
        config(
            task="extraction",
            label="intent",
            source=None,
            template={"type": "text", "prompt": "{text} = ", "completion": "{answer}"},
            max_length=64,
            sources=[
                {"name": "told", "source": {"type": "file", "path": "rows.jsonl"}},
                {
                    "name": "docs",
                    "source": {"type": "file", "path": "docs.jsonl"},
                    "template": {"type": "completion", "text": "{body}"},
                    "replay": 0.25,
                },
            ],
        ),
        base,
    )
    train = done.splits["train"]
    assert sum(row.document for row in train) == 32
    assert sum(not row.document for row in train) == 96
    assert set(done.report["labels"]["train"]) == {"on", "off"}
    assert done.prompt["source"] == "told"
    assert all(row.asked for row in done.splits["validation"])
    facts = done.report["facts"]
    assert (facts["mask_differs"], facts["same_ids"]["differs"]) == (0, "")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path_factory.mktemp("base")))


@settings(deadline=None, max_examples=150)
@given(text=st.text("ab \nüß日本🙂é.", min_size=30, max_size=160), max_length=st.integers(8, 40))
def test_any_text_is_cut_between_characters_and_nothing_of_it_is_lost(
    tokenizer: Tokenizer, text: str, max_length: int
) -> None:
    controls = control_tokens(tokenizer)
    stop = Stop(tokenizer.eos_token_id, "<|im_end|>")
    document = Rendered(SourceRow({}, "docs.jsonl:1"), "", text, document=text)
    (whole,) = encode([document], tokenizer, stop, [stop.id], controls)
    made = list(pieces_of(document, whole, tokenizer, max_length))
    trained = [token for _, ids in made for token in ids.labels if token != IGNORED]
    assert trained == whole.input_ids[1:]
    assert "".join(piece.completion for piece, _ in made) == text
    assert [piece.ends for piece, _ in made] == [False] * (len(made) - 1) + [True]
    assert len(made) == 1 or len(made) >= len(whole.input_ids) / max_length
    assert all(len(ids.input_ids) <= max_length for _, ids in made)
    assert all(piece.completion for piece, _ in made)
