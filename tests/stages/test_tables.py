"""What is new in a table takes its own files and nothing else, from the plan to the report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmcompile.console.errors import BadRecipeError, SlmcompileError
from slmcompile.estimate.memory import _trained_state
from slmcompile.estimate.peak import predict
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.diff import compare, side_of
from slmcompile.explain.plan_text import plan_text
from slmcompile.explain.planned import plan_compiled
from slmcompile.facts.gather import context_of, recipe_of
from slmcompile.lock.references import references
from slmcompile.methods import METHODS
from slmcompile.recipe.json_schema import schema_files
from slmcompile.recipe.key_docs import key_docs
from slmcompile.recipe.project import Project
from slmcompile.shapes.architecture import Trainable
from slmcompile.state.changes import changes
from tests import toys
from tests.pretend import pretend_run
from tests.projects import REPOSITORY, environment, make_project

FREED = ("gates", "data.steps", "train.optim", "train.loss")
"""Overrides that a test sets by itself."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    toys.add_groups(root)
    with toys.toys():
        yield Project(root)


def test_they_are_gone_behind_the_test(tmp_path: Path) -> None:
    root = make_project(tmp_path.resolve(), data=("tiny",))
    toys.add_groups(root)
    with toys.toys():
        assert "norms" in METHODS
    assert "norms" not in METHODS
    with pytest.raises(BadRecipeError, match=r"train\.method: must be '.*'full', 'lora'"):
        compile_recipe(Project(root), "tiny", ["train=norms"])


def test_they_are_planned_judged_and_estimated(project: Project) -> None:
    compiled = compile_recipe(project, "tiny", toys.OVERRIDES)
    planned = plan_compiled(project, compiled, None)
    assert not [finding for finding in planned.findings if finding.blocks]
    told = {finding.check.name: finding.verdict.evidence for finding in planned.findings}
    # Two norms of 64 weights in each of two layers.
    assert told["something-is-trained"].startswith("256 parameters trained")
    assert "as box fp32 by the box's builder" in told["exportable"]
    text = plan_text(planned)
    assert "will count" in text
    assert "1 to count" in text
    context = context_of(project, compiled, planned.changes, None)
    found = predict(context)
    lora = compile_recipe(project, "tiny", ())
    other = predict(context_of(project, lora, changes(project, lora), None))
    assert found is not None
    assert other is not None
    assert 0 < found.training.low < other.training.low, "there is no low-rank activation"
    # An optimizer's state is a part of it: one mean a weight, and not two moments.
    train, weights = recipe_of(compiled.effective).train, Trainable((), 1000, 0, 0)
    adam = train.model_copy(update={"optim": "adamw_torch"})
    assert _trained_state(adam, weights, 10) - _trained_state(train, weights, 10) == 4000


def test_a_check_refuses_what_trains_nothing(project: Project) -> None:
    compiled = compile_recipe(project, "tiny", [*toys.OVERRIDES, "train.first_layers=0"])
    blocked = [f for f in plan_compiled(project, compiled, None).findings if f.blocks]
    assert [finding.check.name for finding in blocked] == ["something-is-trained"]
    assert blocked[0].verdict.evidence == "no weight is trained"


def test_a_key_that_the_optimizer_does_not_read_is_refused(project: Project) -> None:
    compiled = compile_recipe(project, "tiny", [*toys.OVERRIDES, "train.adam_beta1=0.8"])
    blocked = [f for f in plan_compiled(project, compiled, None).findings if f.blocks]
    assert [finding.check.name for finding in blocked] == ["no-option-voided"]
    assert blocked[0].verdict.evidence == (
        "without effect beside train.optim=signs: the optimizer does not read it"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.source.vocab_size=512", "model.source.vocab_size: unknown key for the type seeded"),
        ("data.source.delimiter=x", "data.source.delimiter: unknown key for the type lines"),
        ("data.source.path=data/lynes.txt", "did you mean 'data/lines.txt'"),
        ("data.steps=[{type: shoot, column: text}]", "did you mean 'shout'"),
        ("data.template.askd=text", "did you mean 'data.template.asked'"),
        ("data.template.prompt=x", "data.template.prompt: unknown key for the type pair"),
        ("data.steps=[{type: shout, colunm: text}]", "did you mean 'data.steps.0.column'"),
        ("train.lora.r=4", "train.lora: the method norms does not read it"),
        ("train.first_layers=x", "train.first_layers: must be a whole number"),
        ("train.first_layer=1", "did you mean 'train.first_layers'"),
        ("train.optim=sings", "did you mean 'signs'"),
        ("train.loss={type: roted}", "did you mean 'rooted'"),
        ("train.loss={type: rooted, flor: 1}", "did you mean 'train.loss.floor'"),
        (
            "train.loss={type: rooted, gamma: 1}",
            "train.loss.gamma: unknown key for the type rooted",
        ),
        ("target.box.precision=int8", "target.box.precision: must be 'fp32'"),
        ("target.box.int4_block_size=32", "target.box.int4_block_size: "),
        ("gates=[{metric: one_wrd, min: 0.1}]", "did you mean 'one_word'"),
    ],
)
def test_their_keys_are_as_closed_as_any(project: Project, override: str, said: str) -> None:
    kept = [each for each in toys.OVERRIDES if not each.startswith(FREED)]
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "tiny", [*kept, f"++{override}"])
    assert said in f"{caught.value.what} {caught.value.mend}"


def test_why_and_diff_name_their_keys(project: Project) -> None:
    before = compile_recipe(project, "tiny", toys.OVERRIDES)
    pretend_run(project, before)
    after = compile_recipe(
        project,
        "tiny",
        [*toys.OVERRIDES, "train.first_layers=1", "target.box.serial=8"],
    )
    reasons = {
        change.stage.kind: [reason.sentence() for reason in change.reasons]
        for change in changes(project, after)
    }
    assert reasons["train"] == ["train.first_layers 2 → 1"]
    assert reasons["export"][0] == "target.box.serial 7 → 8"
    difference = compare(side_of("old", before), side_of("new", after))
    assert {key.key for key in difference.keys} == {"train.first_layers", "target.box.serial"}


def test_why_diff_and_lock_name_what_sources_and_steps_read(project: Project) -> None:
    before = compile_recipe(project, "tiny", toys.OVERRIDES)
    pretend_run(project, before)
    assert [reference.key for reference in references(before)] == [
        "file:data/lines.txt",
        "file:data/lines.txt",
    ]
    with (project.root / "data/lines.txt").open("a", encoding="utf-8") as stream:
        stream.write("\nlights on => on")
    step = "data.steps=[{type: shout, column: label}]"
    overrides = [each for each in toys.OVERRIDES if not each.startswith("data.steps")]
    after = compile_recipe(
        project, "tiny", [*overrides, "model.source.number=4", step, "data.source.arrow='->'"]
    )
    difference = compare(side_of("old", before), side_of("new", after))
    assert {key.key for key in difference.keys} == {
        "model.source.number", "data.source.arrow", "data.steps",
    }  # fmt: skip
    changed = {stage.kind: [r.sentence() for r in stage.reasons] for stage in difference.stages}
    assert changed["base"] == ["model.source.number 3 → 4", "data/lines.txt changed"]
    assert changed["data"][0] == "data.source.arrow => → ->"
    assert changed["data"][1].startswith("data.steps [{")
    assert changed["data"][2] == "data/lines.txt changed"


def test_they_are_in_the_schema_and_on_the_keys_page(project: Project) -> None:
    schemas = schema_files()
    assert "arrow" in schemas["data.json"]
    assert "shout" in schemas["data.json"]
    assert "seeded" in schemas["model.json"]
    assert "first_layers" in schemas["train.json"]
    assert "signs" in schemas["train.json"]
    assert "RootedLoss" in schemas["train.json"]
    assert "one_word" in schemas["eval.json"]
    assert "serial" in schemas["target.json"]
    page = key_docs()
    assert "### `model.source` with `type: seeded`" in page
    assert "### `data.source` with `type: lines`" in page
    assert "### `data.steps[]` with `type: shout`" in page
    assert "### `data.template` with `type: pair`" in page
    assert "### `train` with `method: norms`" in page
    assert "### `train.loss` with `type: rooted`" in page
    assert "| `first_layers` | integer, ≥ 0 | `2` | Layers whose norms are trained. |" in page
    assert "### `target.NAME` with `execution_provider: box`" in page


def test_they_run_go_on_from_a_checkpoint_and_are_reported_on(project: Project) -> None:
    root = project.root
    done = subprocess.run(
        [sys.executable, "-m", "tests.toys", str(root)],
        cwd=REPOSITORY, env=environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "going on from the checkpoint at step 2" in done.stdout + done.stderr
    outputs = root / "outputs" / "tiny"
    adapter = outputs / "train" / "adapter"
    assert sorted(path.name for path in adapter.iterdir()) == ["method.json", "norms.safetensors"]
    training = json.loads((root / "pipelines/tiny/metrics/train.json").read_text())
    assert training["train_loss_last"] < training["train_loss_first"]
    curve = json.loads((root / "pipelines/tiny/plots/train.json").read_text())
    assert curve["objective"] == "rooted cross entropy (floor 0.5)"
    # The mean of roots is not above the root of the mean (Jensen).
    assert all(0 < p["loss"] <= (p["cross_entropy"] + 0.5) ** 0.5 for p in curve["curve"])
    (data,) = (root / "outputs").glob("data-*/data_report.json")
    found = json.loads(data.read_text(encoding="utf-8"))
    assert found["notes"] == ["shout text: 480 of 480 rows are left; counted changed: 480"]
    assert found["examples"][0]["segments"][0]["text"].isupper()
    (base,) = (root / "outputs").glob("base-*/manifest.json")
    assert json.loads(base.read_text(encoding="utf-8"))["info"]["parameters"] == 106_816
    assert (outputs / "export-box" / "box.txt").read_text() == "7\n"
    counts = json.loads((outputs / "count" / "counts.json").read_text())
    assert counts == {
        "answer-base": 72, "answer-baselines": 144, "answer-torch": 72, "answer-box": 72,
    }  # fmt: skip
    metrics = {
        name: json.loads((root / f"pipelines/tiny/metrics/{name}.json").read_text())
        for name in ("base", "torch", "box")
    }
    assert metrics["torch"]["perplexity"] < metrics["base"]["perplexity"]
    assert metrics["box"]["perplexity"] == pytest.approx(metrics["torch"]["perplexity"], rel=1e-3)
    assert 0 < metrics["box"]["one_word"] <= 1
    report = (outputs / "report" / "report.md").read_text(encoding="utf-8")
    assert "One word" in report
    assert "shout text: 480 of 480 rows are left; counted changed: 480" in report
    assert "norm tuning (2 layers) by rooted cross entropy (floor 0.5)" in report
    (card,) = (outputs / "report" / "cards").rglob("*.md")
    assert "factory box fp32" in card.read_text(encoding="utf-8")
