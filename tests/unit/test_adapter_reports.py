"""Documents of one of several adapters say whose they are."""

from __future__ import annotations

from dataclasses import asdict, replace

import yaml

from slmcompile.report.build import build
from slmcompile.report.overview import Told, overview
from tests.unit.test_report import read, sample


def test_each_document_names_the_adapter_and_its_command_asks_that_one() -> None:
    found = build(replace(sample(), member="polite"))
    card = found["cards/cpu-int8/README.md"]
    assert "slmcompile generate tone --adapter polite --target cpu-int8 'turn on lamp 0'" in card
    assert "\n# tone / polite, cpu-int8\n" in card
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["model-index"][0]["name"] == "tone / polite"
    assert found["report.md"].startswith("# tone / polite\n")
    assert "tone / polite" in read(found["report.html"]).text


def test_each_document_says_which_other_recipe_trained_it() -> None:
    said = "The adapter is that of recipe manners, as that trains it."
    facts = replace(sample(), member="polite", trained_by="manners")
    own, found = build(sample()), build(facts)
    for name in ("cards/cpu-int8/README.md", "report.md", "report.html"):
        text = read(found[name]).text if name.endswith("html") else found[name]
        assert text.count(said) == 1
        assert "The adapter is that of" not in own[name]


def test_what_is_said_of_all_stands_once_over_all() -> None:
    facts = sample()
    pages = [asdict(facts) | {"name": name} for name in ("polite", "rude")]
    html, markdown = overview(pages, Told(facts.name, "adapter", "adapters", facts.description))
    assert read(html).text.count(facts.description) == 1
    assert markdown.count(facts.description) == 1
    assert overview(pages)[0].count(facts.description) == 2


def test_a_folder_that_others_are_in_too_is_said_where_its_size_stands() -> None:
    facts = sample()
    kept = {"adapter": "adapters/polite.onnx_adapter", "adapters": 3, "adapter_bytes": 6_600_000}
    shared = [replace(a, **kept) if a.kind == "export" else a for a in facts.artifacts]
    # An export that lost the task is not told as the smallest.
    group = replace(facts, member="polite", artifacts=shared, comparisons=(), gates=())
    found = build(group)
    sentence = (
        "The size of cpu-int8 is of one folder with all 3 adapters; 6.60 MB of it are this"
        " adapter's alone."
    )
    html = read(found["report.html"]).text
    assert sentence in html
    assert sentence in found["report.md"]
    assert sentence in found["cards/cpu-int8/README.md"]
    assert "cpu-int8 with all 3 adapters" in html
    assert "MB with all 3 adapters" in overview([asdict(group)])[1]
    alone = build(replace(group, artifacts=facts.artifacts))
    assert "adapters" not in alone["report.md"] + read(alone["report.html"]).text


def test_an_unknown_licence_is_not_what_the_data_is_called() -> None:
    found = build(replace(sample(), data_name="letters", data_license="unknown"))
    assert "on letters (licence unknown)." in found["report.md"]
    assert "on letters (licence unknown)." in read(found["report.html"]).text
    assert "letters, licence unknown." in found["cards/cpu-int8/README.md"]
