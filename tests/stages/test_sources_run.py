"""Recipes of several sources and of plain text, run whole: trained, exported, measured, told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.projects import make_project
from tests.run_stages import run_stages

pytestmark = pytest.mark.long

MIX = """\
defaults: [tiny, _self_]
data:
  source: null
  sources:
    - name: commands
      source: {type: file, path: data/tiny/commands.jsonl}
      weight: 2
    - name: polite
      source: {type: file, path: data/polite.jsonl}
      columns: {text: ask, label: name}
      weight: 1
    - name: general
      source: {type: file, path: data/docs.jsonl}
      template: {type: completion, text: "{body}"}
      replay: 0.1
"""
PLAIN = """\
defaults:
  - {model: tiny-llama}
  - {data: docs}
  - {train: tiny}
  - {eval: plain-text}
  - target: [cpu-fp32]
  - {track: none}
  - _self_
"""
DOCS = """\
name: docs
task: generation
source: {type: file, path: data/docs.jsonl}
template: {type: completion, text: "{body}"}
max_length: 32
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = make_project(tmp_path.resolve(), data=("tiny",))
    lines = (folder / "data/tiny/commands.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    write(
        folder / "data/polite.jsonl",
        [{"ask": f"please {row['text']}", "name": row["label"]} for row in rows[:200]],
    )
    texts = [row["text"] for row in rows]
    docs = [" ".join(texts[n * 8 : n * 8 + (n % 5 + 1) * 2]) for n in range(60)]
    write(folder / "data/docs.jsonl", [{"body": text} for text in docs])
    (folder / "recipes/mix.yaml").write_text(MIX, encoding="utf-8")
    (folder / "recipes/plain.yaml").write_text(PLAIN, encoding="utf-8")
    (folder / "conf/data/docs.yaml").write_text(DOCS, encoding="utf-8")
    return folder


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def metrics(root: Path, recipe: str, name: str) -> dict[str, Any]:
    path = root / "pipelines" / recipe / "metrics" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_a_mixture_is_learnt_and_each_source_is_told_apart(root: Path) -> None:
    said = run_stages(root, "mix")
    assert "general: 31 of 51 training rows, 10.0% of the rows" in said
    assert "checks proved" in said
    torch, base = metrics(root, "mix", "torch"), metrics(root, "mix", "base")
    assert list(torch["sources"]) == ["commands", "general", "polite"]
    for name in ("commands", "polite"):
        assert torch["sources"][name]["exact_match"] > 0.8
        assert base["sources"][name]["exact_match"] < 0.5
    assert "exact_match" not in torch["sources"]["general"]
    assert torch["sources"]["general"]["perplexity"] < base["sources"]["general"]["perplexity"] / 10
    rows = [torch["sources"][name]["rows"] for name in ("commands", "polite")]
    right = [torch["sources"][name]["exact_match"] for name in ("commands", "polite")]
    assert torch["rows"] == sum(rows)
    together = sum(share * count for share, count in zip(right, rows, strict=True)) / sum(rows)
    assert torch["exact_match"] == pytest.approx(together)
    exported = metrics(root, "mix", "cpu-fp32")
    for name, own in exported["sources"].items():
        assert own["perplexity"] == pytest.approx(torch["sources"][name]["perplexity"], rel=1e-3)
    report = (root / "outputs/mix/report/report.md").read_text(encoding="utf-8")
    assert "## Sources" in report
    assert "test rows, against forgetting" in report


def test_plain_text_is_learnt_and_measured_by_its_likelihood(root: Path) -> None:
    said = run_stages(root, "plain")
    assert "24 of 60 documents are longer than 32 tokens and became 48 rows" in said
    torch, base = metrics(root, "plain", "torch"), metrics(root, "plain", "base")
    assert torch["perplexity"] < base["perplexity"] / 10
    assert torch["bits_per_byte"] < base["bits_per_byte"]
    assert not {"exact_match", "cut_off"} & torch.keys()
    lines = (root / "outputs/plain/score/predictions.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["artifact"] == "torch"]
    bits = -sum(row["log_likelihood"] for row in rows) / math.log(2)
    text = "".join(row["reference"] for row in rows)
    assert torch["bits_per_byte"] == pytest.approx(bits / len(text.encode()))
    exported = metrics(root, "plain", "cpu-fp32")
    assert exported["perplexity"] == pytest.approx(torch["perplexity"], rel=1e-3)
    prompt = json.loads((root / "outputs/plain/export-cpu-fp32/prompt.json").read_text("utf-8"))
    assert (prompt["text"], prompt["columns"]) == ("{text}", ["text"])
