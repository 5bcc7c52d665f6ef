"""What the data stage finds in its rows, on real rows that are spoilt in one way each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import slmcompile.data.block as program
from slmcompile.data.encode import Encoded, encode
from slmcompile.data.report_facts import RowFacts, read_data_facts
from slmcompile.data.store import IGNORED
from tests.data_stage import CHAT, TEXT, Prepared, make_config, rows, write_jsonl
from tests.tiny_tokenizer import CHATML, GEMMA, make_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "base", adds_bos_and_eos=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_jsonl(folder, rows())
    return folder


def facts(tmp_path: Path, base: Path, **config: Any) -> RowFacts:
    done = Prepared(tmp_path, make_config(**config), base)
    found = read_data_facts(done.folder)
    assert found is not None
    return found.facts


@pytest.mark.parametrize("template", [TEXT, CHAT], ids=["text", "chat"])
def test_good_rows_have_good_facts(
    tmp_path: Path, project: Path, base: Path, template: dict[str, str]
) -> None:
    found = facts(tmp_path, base, template=template, split={"strategy": "stratified"})
    assert found.mask_differs == 0
    assert found.stop_trained == len(rows())
    assert found.least_trained > 5
    assert found.least_trained_at.startswith("rows.jsonl:")
    assert found.doubled == {"BOS": 0, "EOS": 0}
    assert found.roles == ({} if template is TEXT else {"user assistant": 120})
    assert set(found.leaks_exact.values()) == set(found.leaks_normalised.values()) == {0}
    assert found.strata is not None
    assert (found.strata.name, found.strata.prompts, found.strata.splits) == ("off", 60, 3)
    assert found.given_away == 0
    same = found.same_ids
    assert (same.differs, same.prompts, same.served) == ("", 60, 60)
    assert same.training == same.serving == same.exported


def spoil(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Changes what the encoder gave, behind its own proof."""

    def spoilt(*arguments: Any) -> list[Encoded]:
        return [change(each) for each in encode(*arguments)]

    monkeypatch.setattr(program, "encode", spoilt)


def all_masked(row: Encoded) -> Encoded:
    return replace(row, labels=[IGNORED] * len(row.labels))


def stop_masked(row: Encoded) -> Encoded:
    return replace(row, labels=[*row.labels[:-1], IGNORED])


def prompt_trained(row: Encoded) -> Encoded:
    return replace(row, labels=list(row.input_ids))


def shifted(row: Encoded) -> Encoded:
    """Each answer token stands one place too early, as in a loss that shifts twice."""
    return replace(row, labels=[*row.labels[1:], IGNORED])


def test_masked_labels_are_seen_in_the_rows_themselves(
    tmp_path: Path, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, all_masked)
    found = facts(tmp_path, base)
    assert (found.least_trained, found.stop_trained, found.mask_differs) == (0, 0, 120)


@pytest.mark.parametrize("change", [stop_masked, prompt_trained, shifted])
def test_a_wrong_mask_is_seen_in_the_rows_themselves(
    tmp_path: Path, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    spoil(monkeypatch, change)
    found = facts(tmp_path, base)
    assert found.mask_differs == 120
    assert found.mask_differs_at.startswith("rows.jsonl:")
    assert (found.stop_trained == 0) == (change is stop_masked)


def test_a_template_that_writes_bos_twice_is_seen(
    tmp_path: Path, project: Path, base: Path
) -> None:
    template = TEXT | {"prompt": "<|endoftext|><|endoftext|>{text} = "}
    found = facts(tmp_path, base, template=template)
    assert found.doubled == {"BOS": 120, "EOS": 0}
    assert found.doubled_at == "rows.jsonl:1"


def test_a_chat_template_that_ends_turns_twice_is_seen(tmp_path: Path, project: Path) -> None:
    twice = CHATML.replace("'<|im_end|>'", "'<|im_end|><|im_end|>'")
    base = make_tokenizer(tmp_path / "base", chat_template=twice)
    assert facts(tmp_path, base, template=CHAT).doubled == {"BOS": 0, "EOS": 120}


def test_a_served_prompt_that_differs_from_training_is_seen(tmp_path: Path) -> None:
    """Gemma's template trims; a format string of it does not."""
    base = make_tokenizer(tmp_path / "base", chat_template=GEMMA)
    question = {"role": "user", "content": " turn on the lamp "}
    talks = [
        {"messages": [question | {"content": f" lamp {n} "}, {"role": "assistant", "content": "a"}]}
        for n in range(20)
    ]
    write_jsonl(tmp_path / "project", talks)
    config = {"template": {"type": "messages"}, "label": None, "task": "generation"}
    same = facts(tmp_path, base, **config).same_ids
    assert same.differs.startswith("rows.jsonl:1: prompt.json gives other ids than training")
    assert same.training == same.exported != same.serving


def test_a_tokenizer_that_an_export_splits_otherwise_is_seen(
    tmp_path: Path, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slmcompile.data.same_ids as same_ids

    whole = {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Removed", "invert": False}
    monkeypatch.setattr(same_ids, "portable", lambda _: whole)
    same = facts(tmp_path, base).same_ids
    assert "an exported folder gives other ids" in same.differs
    assert same.training == same.serving != same.exported


def test_conversations_of_several_turns_count_by_their_roles(tmp_path: Path, base: Path) -> None:
    def talk(*roles: str, n: int) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": f"{role} {n}"} for role in roles]}

    short = [talk("user", "assistant", n=n) for n in range(20)]
    long = [talk("system", "user", "assistant", "user", "assistant", n=n) for n in range(10)]
    write_jsonl(tmp_path / "project", short + long)
    config = {"template": {"type": "messages"}, "label": None, "task": "generation"}
    found = facts(tmp_path, base, **config)
    assert found.roles == {"system user assistant user assistant": 10, "user assistant": 20}
    assert found.mask_differs == 0
    assert (found.same_ids.prompts, found.same_ids.served) == (30, 20)


def test_labels_and_leaks_of_given_splits_are_counted(tmp_path: Path, base: Path) -> None:
    def row(text: str, intent: str) -> dict[str, Any]:
        return {"text": text, "answer": {"intent": intent}}

    project = tmp_path / "project"
    write_jsonl(project, [row(f"lamp {n}", "on") for n in range(10)], "a.jsonl")
    write_jsonl(project, [row("lamp 1", "on"), row("LAMP 2!", "on")], "b.jsonl")
    write_jsonl(project, [row("x", "left"), row("y", "left"), row("on z", "intent on")], "c.jsonl")
    files = {"train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}
    found = facts(tmp_path, base, source={"type": "file", "files": files})
    assert found.leaks_exact["validation_in_train"] == 1
    assert found.leaks_normalised["validation_in_train"] == 2
    assert found.never_trained == {"intent on": 1, "left": 2}
    assert found.strata is None


def test_a_label_lost_with_the_rows_too_long_is_named(
    tmp_path: Path, project: Path, base: Path
) -> None:
    long_row = {"text": "what is the weather like " * 60, "answer": {"intent": "rare"}}
    write_jsonl(project, [*rows(), long_row])
    assert facts(tmp_path, base, max_length=128, too_long="drop").labels_lost == ("rare",)


def test_answers_count_as_given_away_in_the_columns_and_not_in_the_template(
    tmp_path: Path, base: Path
) -> None:
    values = [{"text": f"lamp {n} {'on' if n < 5 else ''}", "answer": "on"} for n in range(20)]
    write_jsonl(tmp_path / "project", values)
    template = TEXT | {"prompt": "on or off? {text} = "}
    config = {"template": template, "task": "classification", "label": None}
    assert facts(tmp_path, base, **config).given_away == 5


def test_facts_are_read_back_as_they_were_written(
    tmp_path: Path, project: Path, base: Path
) -> None:
    done = Prepared(tmp_path, make_config(), base)
    found = read_data_facts(done.folder)
    assert found is not None
    assert json.loads(json.dumps(found.report["facts"])) == done.report["facts"]
    assert found.rows == done.report["counts"]
    assert found.longest == done.report["lengths"]["total"]["max"]
    assert read_data_facts(tmp_path) is None


def test_facts_are_read_through_the_links_of_dvcs_cache(
    tmp_path: Path, project: Path, base: Path
) -> None:
    """DVC's ``cache.type = symlink``; a plan, which may be a stranger's, does not get this far."""
    done = Prepared(tmp_path, make_config(), base)
    file = done.folder / "data_report.json"
    file.rename(tmp_path / "blob")
    file.symlink_to(tmp_path / "blob")
    assert read_data_facts(done.folder) is not None


@pytest.mark.parametrize(
    "spoilt",
    [
        {"counts": {"train": 0, "validation": 1, "test": 1}},
        {"counts": {"train": 10**400, "validation": 1, "test": 1}},
        {"contradicting": {"count": 1, "listed": []}},
        {"stop": {}},
        {"facts": []},
        {"tokens": {"train": {"total": float("inf"), "trained": 1}}},
    ],
    ids=str,
)
def test_facts_that_no_stage_writes_are_none(
    tmp_path: Path, project: Path, base: Path, spoilt: dict[str, Any]
) -> None:
    done = Prepared(tmp_path, make_config(), base)
    file = done.folder / "data_report.json"
    file.write_text(json.dumps({**done.report, **spoilt}), encoding="utf-8")
    assert read_data_facts(done.folder) is None
