"""Several sources in a plan: their keys, their files, and what is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from slmcompile.console.errors import SlmcompileError
from slmcompile.drift.look import drift
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.diff import compare, side_of
from slmcompile.explain.diff_text import diff_text
from slmcompile.explain.planned import plan_compiled
from slmcompile.lock.file import write_lock
from slmcompile.lock.references import references
from slmcompile.lock.update import update_lock
from slmcompile.recipe.data_parts import OneSource
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from slmcompile.state.measured import _artifacts
from tests.pretend import pretend_run
from tests.projects import make_project
from tests.unit.checks.data_contexts import planned, verdict

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
      source:
        type: file
        path: data/docs-*.jsonl
      template: {type: completion, text: "{body}"}
      replay: 0.1
"""
PLAIN = """\
name: docs
task: generation
source: {type: file, path: data/docs-1.jsonl}
template: {type: completion, text: "{body}"}
max_length: 32
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    lines = (root / "data/tiny/commands.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    polite = [{"ask": f"please {row['text']}", "name": row["label"]} for row in rows[:60]]
    write(root, "polite", polite)
    write(root, "docs-1", [{"body": row["text"]} for row in rows[:20]])
    write(root, "docs-2", [{"body": row["text"]} for row in rows[20:40]])
    (root / "recipes/mix.yaml").write_text(MIX, encoding="utf-8")
    (root / "conf/data/docs.yaml").write_text(PLAIN, encoding="utf-8")
    return Project(root)


def write(root: Path, name: str, rows: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "data" / f"{name}.jsonl").write_text(text, encoding="utf-8")


def mixed(project: Project, **keys: object) -> None:
    """Writes the recipe with other keys of its second source."""
    recipe = yaml.safe_load(MIX)
    recipe["data"]["sources"][1] |= keys
    (project.root / "recipes/mix.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def data_prints(project: Project, *overrides: str) -> set[str]:
    plan = compile_recipe(project, "mix", overrides)
    return {print_ for address, print_ in plan.fingerprints().items() if "/data" in address}


def test_a_plan_reads_the_files_of_every_source(project: Project) -> None:
    plan = compile_recipe(project, "mix", ())
    data = plan.stage("data")
    assert data.files == (
        "data/tiny/commands.jsonl", "data/polite.jsonl", "data/docs-1.jsonl", "data/docs-2.jsonl",
    )  # fmt: skip
    assert data.names == tuple(f"sources.{number}.source.path" for number in range(3))
    found = plan_compiled(project, plan, None)
    assert not [finding for finding in found.findings if finding.blocks]
    told = {finding.check.name: finding.verdict.evidence for finding in found.findings}
    assert "polite: text, label: filled in all 60 rows" in told["columns"]
    assert "general: body: filled in all 40 rows" in told["columns"]


@pytest.mark.parametrize("key", sorted(OneSource.model_fields))
def test_every_key_of_a_source_moves_the_data(project: Project, key: str) -> None:
    other: dict[str, object] = {
        "name": "others",
        "source": {"type": "file", "path": "data/tiny/commands.jsonl"},
        "columns": {"text": "ask", "label": "ask"},
        "steps": [{"type": "drop", "column": "label", "values": ["x"]}],
        "template": {"type": "text", "prompt": "{text}?", "completion": "{label}"},
        "weight": 3,
        "replay": 0.2,
        "repeat": True,
    }
    before = data_prints(project)
    change: dict[str, object] = {key: other[key]}
    if key == "replay":
        change["weight"] = None
    mixed(project, **change)
    assert data_prints(project) != before


def test_where_files_lie_is_no_content_in_a_list_either(project: Project) -> None:
    before = data_prints(project)
    (project.root / "data/polite.jsonl").rename(project.root / "data/kind.jsonl")
    mixed(project, source={"type": "file", "path": "data/kind.jsonl"})
    assert data_prints(project) == before
    with (project.root / "data/kind.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"ask": "please", "name": "on"}\n')
    assert data_prints(project) != before


def test_an_override_reaches_an_entry_as_in_other_lists(project: Project) -> None:
    plan = compile_recipe(project, "mix", ["data.sources.1.weight=2"])
    assert [each.get("weight") for each in plan.effective["data"]["sources"]] == [2.0, 2.0, None]
    assert plan.origins["data.sources.1.weight"] == "override 'data.sources.1.weight=2'"
    assert plan.origins["data.sources.0.weight"] == "recipes/mix.yaml:7"
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "mix", ["data.sources.5.weight=2"])
    assert "data.sources is a list of 3 without an entry 5" in caught.value.what


@pytest.mark.parametrize(
    ("keys", "said", "mend"),
    [
        ({"weigth": 1}, "weigth: unknown key", "did you mean 'data.sources.1.weight'?"),
        ({"weight": 0}, "weight: must be more than 0 (given 0)", "give a value in that range"),
        ({"weight": -1}, "weight: must be more than 0", "give a value in that range"),
        ({"name": "commands"}, "name: is the name of data.sources.0 too", "each its own name"),
        ({"name": "A b"}, "name: has characters that are not allowed", "it must match"),
        ({"weight": None}, "data.sources.1: has no weight, and others have one", "every source"),
        ({"replay": 0.1}, "weight: is beside replay", "keep one of the two"),
        ({"weight": None, "replay": 0.95}, "have a replay of 1.05 together", "less than 1"),
        ({"template": {"type": "completion", "text": "{text}"}},
         "data.sources.1.template: is plain text, which has no label", "make the source replay"),
        ({"source": {"type": "fil"}}, "source.type: 'fil' is none of", "did you mean 'file'?"),
        ({"source": {"type": "file", "path": "a.jsonl", "files": {"train": "b.jsonl"}}},
         "data.sources.1.source.files: there is a path too", "keep one of the two"),
        ({"source": {"type": "file"}}, "data.sources.1.source: neither path nor files", "give"),
        ({"source": {"type": "file", "path": "data/polte.jsonl"}},
         "data.sources.1.source.path: data/polte.jsonl", "did you mean 'data/polite.jsonl'"),
    ],
)  # fmt: skip
def test_what_a_source_cannot_be_is_refused_with_its_line(
    project: Project, keys: dict[str, object], said: str, mend: str
) -> None:
    mixed(project, **keys)
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "mix", ())
    every = [caught.value, *caught.value.also]
    found = next((error for error in every if said in error.what), None)
    assert found is not None, [error.what for error in every]
    assert found.what.startswith("recipes/mix.yaml:")
    assert mend in found.mend


def test_one_source_beside_several_is_refused_and_so_is_none(project: Project) -> None:
    (project.root / "recipes/mix.yaml").write_text(MIX.replace("  source: null\n", ""))
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "mix", ())
    assert "data.sources: is beside data.source, which is one source" in caught.value.what
    with pytest.raises(SlmcompileError, match=r"data\.source: is required and not given"):
        compile_recipe(project, "tiny", ["data.source=null"])


def test_columns_and_steps_are_judged_by_the_source_that_has_them(project: Project) -> None:
    root = project.root
    wrong = verdict(6, planned(root, "data.sources.1.columns.text=aks", recipe="mix"))
    assert wrong.evidence == "data/polite.jsonl:1: no column 'aks'"
    assert wrong.where.endswith(": data.sources.1.columns.text")
    assert wrong.mend == (
        "did you mean 'ask'? columns here: ask, name; data.sources.1.columns renames"
    )
    mixed(project, steps=[{"type": "keep", "column": "name", "values": ["none"]}])
    wrong = verdict(6, planned(root, "data.seed=1", recipe="mix"))
    assert wrong.evidence == "keep name leaves no row"
    assert wrong.where.endswith(": data.sources.1.steps.0")
    assert wrong.where.startswith("recipes/mix.yaml:")


def test_a_changed_file_names_its_source_in_reasons_diff_drift_and_lock(project: Project) -> None:
    update_lock(project, ["mix"])
    before = compile_recipe(project, "mix", ())
    pretend_run(project, before)
    found = references(before)
    assert [(each.key, each.source) for each in found if each.origin[0] == "data"] == [
        ("file:data/tiny/commands.jsonl", "commands"),
        ("file:data/polite.jsonl", "polite"),
        ("file:data/docs-1.jsonl", "general"),
        ("file:data/docs-2.jsonl", "general"),
    ]
    with (project.root / "data/polite.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"ask": "please", "name": "on"}\n')
    after = compile_recipe(project, "mix", ())
    (reason,) = next(each.reasons for each in changes(project, after) if each.stage.kind == "data")
    assert reason.sentence() == "data/polite.jsonl (source polite) changed"
    assert reason.where == "recipes/mix.yaml:9"
    told = diff_text(compare(side_of("old", before), side_of("new", after)))
    assert "data/polite.jsonl (source polite) SHA-256" in told
    (moved,) = [each for each in drift(project, ["mix"]) if each.kind == "lock"]
    assert moved.what.startswith("of the source polite: locks/mix.lock has ")


def test_a_changed_key_of_a_source_is_named_alone(project: Project) -> None:
    before = compile_recipe(project, "mix", ())
    pretend_run(project, before)
    after = compile_recipe(project, "mix", ["data.sources.1.weight=5"])
    difference = compare(side_of("old", before), side_of("new", after))
    assert [key.key for key in difference.keys] == ["data.sources.1.weight"]
    (stage,) = [each for each in difference.stages if each.kind == "data"]
    assert stage.reasons[0].sentence() == "data.sources.1.weight 1 → 5"


def test_a_hub_source_among_several_is_locked_and_held_to_the_policy(project: Project) -> None:
    hub = {"type": "hub", "repo_id": "owner/name", "revision": "main", "splits": {"train": "train"}}
    mixed(project, source=hub)
    commit = "a" * 40
    write_lock(project, "mix", {"dataset:owner/name@main": f"commit:{commit}"})
    plan = compile_recipe(project, "mix", ())
    assert plan.stage("data").config["sources"][1]["source"]["revision"] == commit
    policy = project.root / "conf/policy/default.yaml"
    policy.write_text("hub_organisations: [other]\n", encoding="utf-8")
    refused = verdict(30, planned(project.root, recipe="mix"))
    assert refused.outcome == "refuted"
    assert refused.where.endswith(": data.sources.1.source.repo_id")


@pytest.mark.parametrize(
    ("gate", "said", "mend"),
    [
        ("{metric: perplexity, max: 9, source: generl}", "no source is called 'generl'",
         "sources: commands, polite, general"),
        ("{metric: exact_match, min: 0.5, source: general}",
         "exact_match is of answers, and of this source likelihoods alone are measured",
         "use perplexity"),
        ("{metric: bleu, min: 0.5, source: polite}", "bleu is not measured", "add bleu to"),
    ],
)  # fmt: skip
def test_a_bar_of_a_source_is_of_one_that_is_there_and_measured(
    project: Project, gate: str, said: str, mend: str
) -> None:
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "mix", [f"gates=[{gate}]"])
    assert "gates.0: " in caught.value.what
    assert said in caught.value.what
    assert mend in caught.value.mend


def test_bars_of_sources_are_told_apart_and_say_nothing_where_there_are_none(
    project: Project,
) -> None:
    bars = "gates=[{metric: perplexity, max: 9, source: general}, {metric: perplexity, max: 9}]"
    plan = compile_recipe(project, "mix", [bars])
    gates = plan.stage("gate").config["gates"]
    assert [gate.get("source") for gate in gates] == ["general", None]
    assert "source" not in gates[1]
    assert not [f for f in plan_compiled(project, plan, None).findings if f.blocks]
    with pytest.raises(SlmcompileError, match="no source is called 'general'"):
        compile_recipe(project, "tiny", [bars])


def test_committed_metrics_of_a_source_compare_under_its_name() -> None:
    own = {"exact_match": 0.25, "rows": 4, "counted": True, "odd": "x"}
    written = {"format_version": "2.0", "exact_match": 0.5, "sources": {"polite": own, "bad": 3}}
    assert _artifacts(json.dumps(written), "torch") == {
        "torch": {"exact_match": 0.5, "exact_match (polite)": 0.25, "rows (polite)": 4}
    }
    baselines = {"rows": 9, "tf-idf": written}
    assert _artifacts(json.dumps(baselines), "baselines")["tf-idf"]["exact_match (polite)"] == 0.25


# --- plain text ---------------------------------------------------------------------------------

DOCS = ("data=docs", "eval=plain-text")


def test_plain_text_is_measured_by_likelihoods_and_nobody_is_asked(project: Project) -> None:
    plan = compile_recipe(project, "tiny", DOCS)
    assert "answer-baselines" not in {stage.name for stage in plan.stages()}
    assert not [f for f in plan_compiled(project, plan, None).findings if f.blocks]
    (project.root / "conf/eval/default.yaml").write_text("limit: 9\n", encoding="utf-8")
    plan = compile_recipe(project, "tiny", ["data=docs", "eval=default"])
    assert plan.effective["eval"]["metrics"] == ["perplexity", "bits_per_byte"]
    assert plan.effective["eval"]["baselines"] is False


@pytest.mark.parametrize(
    ("overrides", "said", "mend"),
    [
        (["eval=structured"],
         "conf/eval/structured.yaml:3: eval.metrics.0: exact_match (and accuracy, f1_macro) is of"
         " answers, and plain text (template completion) asks for none",
         "use perplexity, bits_per_byte"),
        (["gates=[{metric: cut_off, max: 0.5}]"], "gates.0: cut_off is of answers",
         "use perplexity"),
        (["eval.baselines=true"], "eval.baselines: they answer prompts", "eval.baselines=false"),
        (["data.task=classification"], "data.template: is plain text, which has no label",
         "set data.task=generation"),
    ],
)  # fmt: skip
def test_what_needs_an_answer_is_refused_of_plain_text(
    project: Project, overrides: list[str], said: str, mend: str
) -> None:
    kept = [
        each
        for each in DOCS
        if each.partition("=")[0] not in {o.partition("=")[0] for o in overrides}
    ]
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "tiny", [*kept, *overrides])
    every = [caught.value, *caught.value.also]
    found = next((error for error in every if said in error.what), None)
    assert found is not None, [error.what for error in every]
    assert mend in found.mend
