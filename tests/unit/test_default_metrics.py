"""A recipe that says nothing of metrics is measured by what its task asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slmcompile.console.errors import BadRecipeError
from slmcompile.execution.sync import compile_recipe
from slmcompile.metrics import METRICS
from slmcompile.recipe.key_docs import key_docs
from slmcompile.recipe.project import Project
from tests.projects import make_project

RECIPE = """\
defaults: [{model: tiny-llama}, {data: tiny-commands}, {train: tiny}, {target: [cpu-fp32]}, _self_]
eval: {max_new_tokens: 8}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root: Path = make_project(tmp_path_factory.mktemp("project").resolve(), data=("tiny",))
    (root / "recipes" / "silent.yaml").write_text(RECIPE, encoding="utf-8")
    return Project(root)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], ["accuracy", "f1_macro", "perplexity"]),
        (["data.task=generation"], ["exact_match", "perplexity"]),
        (["data.task=summarisation"], ["exact_match", "perplexity"]),
        (["data.task=extraction"], ["exact_match", "field_f1", "perplexity"]),
        (
            ["data.task=extraction", "++data.label=intent"],
            ["exact_match", "field_f1", "accuracy", "f1_macro", "perplexity"],
        ),
        (["++eval.metrics=[f1_lowest]"], ["f1_lowest"]),
        (["++eval.metrics=[]"], []),
    ],
)
def test_the_task_decides_where_the_recipe_does_not(
    project: Project, overrides: list[str], wanted: list[str]
) -> None:
    plan = compile_recipe(project, "silent", overrides)
    assert plan.effective["eval"]["metrics"] == wanted
    for kind in ("score", "check", "report"):
        config = plan.stage(kind).config
        found = config["metrics"] if kind == "score" else config["recipe"]["eval"]["metrics"]
        assert found == wanted, "defaults are materialised wherever they are read"


def test_a_gate_may_be_on_a_default_metric_and_on_no_other(project: Project) -> None:
    assert compile_recipe(project, "silent", ["+gates=[{metric: f1_macro, min: 0.5}]"])
    with pytest.raises(BadRecipeError) as caught:
        compile_recipe(project, "silent", ["+gates=[{metric: exact_match, min: 0.5}]"])
    assert caught.value.mend == "add exact_match to eval.metrics"


def test_no_default_needs_an_extra_a_file_or_another_stage() -> None:
    defaults = [metric for metric in METRICS.values() if metric.default_of]
    assert defaults
    for metric in defaults:
        if metric.default_of == {"documents"}:
            # Bits per byte read the base's tokenizer, by packages that every run needs.
            assert (metric.packages, metric.stages) == (("transformers", "tokenizers"), ("base",))
        else:
            assert (metric.packages, metric.stages) == ((), ())
        assert not metric.file
        assert metric.always == "never", "what is always measured is not named"


def test_a_metric_that_joins_the_table_may_be_a_default(project: Project) -> None:
    entry = replace(METRICS["exact_match"], name="mine", place=5, default_of=frozenset({"every"}))
    with METRICS.joined_by(entry):
        found = compile_recipe(project, "silent", ["++eval.batch_size=4"])
        assert found.stage("score").config["metrics"][0] == "mine"


def test_the_page_of_keys_says_what_they_are() -> None:
    (line,) = (line for line in key_docs().splitlines() if line.startswith("| `metrics` |"))
    assert "| by `data.task` |" in line
    assert "of classification accuracy, f1_macro, perplexity;" in line
    assert "and with data.label accuracy, f1_macro; of plain text" in line
    assert "(template completion) perplexity, bits_per_byte." in line
