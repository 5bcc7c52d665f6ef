"""Training over a target's base, and adapters that stand beside one: stages, identity, refusals."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slmcompile.checks.judge import refusal
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.execution.sync import compile_recipe, sync
from slmcompile.explain.shipped import shipped_lines
from slmcompile.explain.why import explain
from slmcompile.explain.why_text import explain_text
from slmcompile.files.artifact import read_manifest, write_manifest
from slmcompile.plans.definition import Plan, Stage, of_member
from slmcompile.recipe.project import Project
from slmcompile.state.changes import _Manifests, changes
from slmcompile.state.scratch import FINISHED, member_fingerprint, scratch_folder
from slmcompile.state.specs import replaced_spec
from slmcompile.state.state import Cache, Locked, md5_text
from tests.pretend import pretend_run
from tests.projects import make_project
from tests.unit.test_adapters import GROUP, RECIPE, TUNED

OVER = "train.over=cpu-int4"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = make_project(tmp_path)
    (folder / "conf/adapter").mkdir(exist_ok=True)
    (folder / "conf/adapter/commands.yaml").write_text(GROUP, encoding="utf-8")
    text = RECIPE.replace("[cpu-fp32]", "[cpu-int4, cpu-fp32]") + TUNED
    (folder / "recipes/pair.yaml").write_text(text, encoding="utf-8")
    return Project(folder)


def plan(project: Project, recipe: str, *overrides: str) -> Plan:
    return compile_recipe(project, recipe, overrides)


def roles(stage: Stage) -> set[str]:
    return set(stage.inputs)


def test_what_is_trained_measured_and_shipped_has_the_same_base(project: Project) -> None:
    compiled = plan(project, "quickstart", OVER)
    held = compiled.stage("quantize", "cpu-int4")
    assert compiled.stage("train").inputs["over"] == held.out
    assert compiled.stage("answer", "torch").inputs["over"] == held.out
    assert compiled.stage("export", "cpu-int4").inputs["quantized"] == held.out
    assert roles(held) == {"base"}
    for other in ("cpu-int8", "cpu-fp32"):
        own = compiled.stage("quantize", other)
        assert own.inputs["over"] == held.out
        export = compiled.stage("export", other)
        assert (export.inputs["quantized"], export.inputs["over"]) == (own.out, held.out)
    # The base is measured as it was fetched.
    assert "over" not in compiled.stage("answer", "base").inputs
    assert shipped_lines(compiled) == [
        "Trained over the weights that cpu-int4 holds, and kept in fp32 beside them: what is"
        " measured as torch is what ships; cpu-fp32 and cpu-int8 are made of those weights"
        " too, in fp32 and int8."
    ]


def test_a_recipe_that_says_nothing_of_it_is_as_it_was(project: Project) -> None:
    compiled = plan(project, "quickstart")
    assert not compiled.of("quantize")
    assert roles(compiled.stage("train")) == {"base", "data"}
    assert roles(compiled.stage("export", "cpu-int4")) == {"base", "data", "train"}
    assert "adapters" not in compiled.stage("export", "cpu-int4").config["target"]
    assert "over" not in compiled.stage("train").config
    merged = plan(project, "quickstart", "+target.cpu-int4.adapters=merged")
    assert merged.fingerprints() == compiled.fingerprints() | {
        address: found
        for address, found in merged.fingerprints().items()
        if address.endswith(("/check", "/report", "/gate"))
    }
    assert not shipped_lines(compiled)


def test_names_of_targets_are_not_content_and_their_keys_are(project: Project) -> None:
    path = project.root / "recipes/quickstart.yaml"
    path.write_text(path.read_text().replace("cpu-int8, cpu-int4, cpu-fp32", "cpu-int4"))
    path.write_text(path.read_text().replace("artifact: cpu-int8", "artifact: cpu-int4"))
    one = plan(project, "quickstart", OVER)
    path.write_text(path.read_text().replace("cpu-int4", "small"))
    target = "small:\n  execution_provider: cpu\n  precision: int4\n"
    (project.root / "conf/target/small.yaml").write_text(target, encoding="utf-8")
    renamed = plan(project, "quickstart", "train.over=small")
    train = "quickstart/train"
    assert renamed.fingerprints()[train] == one.fingerprints()[train]
    other = plan(project, "quickstart", "train.over=small", "target.small.int4_block_size=64")
    assert other.fingerprints()[train] != one.fingerprints()[train]
    assert renamed.fingerprints()[train] != plan(project, "quickstart").fingerprints()[train]


def test_adapters_share_one_folder_and_each_is_asked_by_name(project: Project) -> None:
    compiled = plan(project, "pair", OVER)
    assert [stage.name for stage in compiled.of("export")] == [
        "export-cpu-fp32",
        "export-cpu-int4",
    ]
    export = compiled.stage("export", "cpu-int4")
    assert roles(export) == {
        *("base", "over", "quantized"),
        *(f"{role}--{name}" for role in ("data", "train") for name in ("one", "two")),
    }
    for name in ("one", "two"):
        answer = compiled.stage("answer", "cpu-int4", name)
        assert answer.inputs["export"] == export.out
        assert answer.config["adapter"] == name
        view = compiled.views[name]
        assert view.stage("export", "cpu-int4").inputs["train"].endswith(f"/adapters/{name}")
    apart = plan(project, "pair", OVER, "train.together=false")
    assert [stage.inputs["over"] for stage in apart.of("train")] == [export.inputs["over"]] * 2
    assert apart.stage("export", "cpu-int4").inputs["train--two"].endswith("train--two")


def test_what_an_adapter_learns_depends_on_what_it_is_trained_over(project: Project) -> None:
    compiled = plan(project, "pair", OVER)
    train = compiled.stage("train")
    assert set(of_member(train.inputs, "two")) == {"base", "over", "data"}

    def learns(over: str) -> str:
        of_each = {"base": "a", "data": "b", "over": over}
        made = {
            role: {"files": {"content": {"size": 1, "sha256": sha256}}}
            for role, sha256 in of_each.items()
        }
        return member_fingerprint(train.spec(), "two", made, compiled.files)

    assert learns("c") == learns("c")
    assert learns("c") != learns("d")


def test_a_plan_knows_an_adapter_again_that_was_trained_over_a_target_s_base(
    project: Project,
) -> None:
    compiled = plan(project, "pair", OVER)
    train = compiled.stage("train")
    manifests = _Manifests(project, Cache(project))
    found: dict[str, dict[str, Any]] = {}
    for role, out in train.inputs.items():
        folder = project.root / out
        folder.mkdir(parents=True)
        (folder / "content").write_text(role, encoding="utf-8")
        write_manifest(folder, role, {})
        found[role] = read_manifest(folder)
        manifests._how[out] = partial(read_manifest, folder)
    # By its own base, as the stage finds it.
    own = {role: found[role] for role in ("base", "over")} | {"data": found["data--two"]}
    identity = member_fingerprint(train.spec(), "two", own, compiled.files)
    learnt = scratch_folder(project, identity) / FINISHED
    learnt.mkdir(parents=True)
    write_manifest(learnt, "learner", {}, identity)
    assert manifests.kept(compiled, train) == {"two": identity}


def test_what_goes_on_from_an_adapter_over_a_base_says_what_itself_is_over(
    project: Project,
) -> None:
    text = (project.root / "recipes/quickstart.yaml").read_text(encoding="utf-8")
    before = text.replace("train:\n", "train:\n  over: cpu-int4\n")
    (project.root / "recipes/before.yaml").write_text(before, encoding="utf-8")
    begun = "train.continue_from=before"
    compiled = plan(project, "quickstart", begun)
    (held,) = compiled.of("quantize")
    assert compiled.stage("train", "earlier").inputs["over"] == held.out
    assert "over" not in compiled.stage("train").inputs
    assert not shipped_lines(compiled)
    both = plan(project, "quickstart", begun, "train.over=cpu-int8")
    # Bases of its three targets, and of what was before the one that is trained over.
    assert len(both.of("quantize")) == 4
    assert both.stage("train", "earlier").inputs["over"] == held.out
    export = both.stage("export", "cpu-int8")
    assert both.stage("train").inputs["over"] == export.inputs["quantized"]
    assert shipped_lines(both)[0].startswith("Trained over the weights that cpu-int8 holds")


def test_the_key_that_names_a_base_is_why_it_is_read(project: Project) -> None:
    compiled, beside = plan(project, "quickstart"), "+target.cpu-int4.adapters=beside"
    pretend_run(project, compiled)

    def keys(*overrides: str) -> dict[str, tuple[object, object, str]]:
        return {
            change.stage.name: (reason.old, reason.new, reason.subject)
            for change in changes(project, plan(project, "quickstart", *overrides))
            for reason in change.reasons
            if reason.cause == "key" and change.stage.name not in {"check", "report"}
        }

    named = (None, "cpu-int4", "train.over")
    reads = ("train", "answer-torch", *(f"export-{name}" for name in compiled.effective["target"]))
    assert keys(OVER) == dict.fromkeys(reads, named)
    assert keys(beside) == {"export-cpu-int4": (None, "beside", "target.cpu-int4.adapters")}
    over = plan(project, "quickstart", OVER)
    told = explain_text(explain(project, over, over.stage("train")))
    assert "not to run: set train.over back to null" in told
    pretend_run(project, over)
    assert keys() == dict.fromkeys(reads, ("cpu-int4", None, "train.over"))


def test_an_adapter_stands_beside_a_base_that_it_was_not_trained_over(project: Project) -> None:
    compiled = plan(project, "quickstart", "+target.cpu-int8.adapters=beside")
    assert "over" not in compiled.stage("train").inputs
    assert roles(compiled.stage("export", "cpu-int8")) == {"base", "quantized", "data", "train"}
    assert roles(compiled.stage("export", "cpu-int4")) == {"base", "data", "train"}
    assert shipped_lines(compiled) == ["Adapters stay in fp32 beside the base of cpu-int8."]


def test_an_adapter_beside_other_weights_than_it_learns_over_is_said(project: Project) -> None:
    beside = ("train=qlora", "+target.cpu-int4.adapters=beside")
    (line,) = shipped_lines(plan(project, "quickstart", *beside))
    assert line.startswith(
        "Adapters stay in fp32 beside the base of cpu-int4, and are trained over"
    )
    assert "the base in NF4: weights that nothing ships" in line
    assert not shipped_lines(plan(project, "quickstart", "train=qlora"))


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (("train.over=cpu-int3",), "no target is called 'cpu-int3'"),
        ((OVER, "+target.cpu-fp32.adapters=merged"), "merges an adapter that train.over"),
        ((OVER, "train=full"), "no adapter stands beside a base"),
        ((OVER, "train=qlora"), "holds the base in 4 bits of its own"),
        ((OVER, "+train.lora.use_dora=true"), "scales the rows of the base's weights"),
        ((OVER, "train.lora.modules_to_save=[lm_head]"), "modules_to_save trains layers"),
        ((OVER, "+train.lora.init_lora_weights=pissa"), "pissa changes the base model"),
        (("+target.cpu-int4.adapters=beside", "train=full"), "no adapter stands beside a base"),
    ],
)
def test_what_cannot_be_is_refused_while_planning(
    project: Project, overrides: tuple[str, ...], what: str
) -> None:
    from slmcompile import api

    try:
        error = refusal(api.plan("quickstart", list(overrides), project=project.root).findings)
    except SlmcompileError as caught:
        error = caught
    assert error is not None
    assert what in error.what
    assert error.code == Exit.BAD_RECIPE
    assert error.mend


def test_a_base_is_named_by_its_target_and_its_plan_can_be_applied(
    project: Project, tmp_path: Path
) -> None:
    from slmcompile import api
    from slmcompile.explain.saved import load

    def named(length: int, *overrides: str) -> None:
        name = "x" * length
        target = f"{name}: {{execution_provider: cpu, precision: int4}}\n"
        (project.root / f"conf/target/{name}.yaml").write_text(target, encoding="utf-8")
        given = [f"target=[{name}]", "gates=[]", *(each.format(name) for each in overrides)]
        planned = api.plan("quickstart", given, project=project.root)
        api.save_plan(project, planned, tmp_path / "saved.plan")
        assert load(tmp_path / "saved.plan").fingerprints == planned.plan.fingerprints()

    named(46, "train.over={}")
    for overrides in (("train.over={}",), ("+target.{}.adapters=beside",)):
        with pytest.raises(SlmcompileError, match="the name is longer than 46 characters"):
            named(47, *overrides)


def test_of_several_adapters_none_goes_into_one_graph_as_nodes(project: Project) -> None:
    from slmcompile import api

    text = RECIPE.replace("[cpu-fp32]", "[cpu-int4, cpu-fp32]")
    (project.root / "recipes/pair.yaml").write_text(text, encoding="utf-8")
    for key in (OVER, "+target.cpu-int4.adapters=beside"):
        given = [key, "train=bottleneck", "train.together=false"]
        error = refusal(api.plan("pair", given, project=project.root).findings)
        assert error is not None
        assert "several adapters of one folder are inputs" in error.what
        assert error.code == Exit.BAD_RECIPE
    apart = api.plan("pair", ["train=bottleneck", "train.together=false"], project=project.root)
    assert refusal(apart.findings) is None
    alone = api.plan("quickstart", [OVER, "train=bottleneck"], project=project.root)
    assert refusal(alone.findings) is None


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("+train.lora.use_dora=true", "take train.lora.use_dora out, or train.over"),
        ("train=full", "choose another train method (train=lora), or take train.over out"),
        ("train=qlora", "train=lora, which learns over the weights that train.over names"),
    ],
)
def test_what_is_to_be_done_is_told_of_the_option_that_stands_in_the_way(
    project: Project, override: str, hint: str
) -> None:
    from slmcompile import api

    error = refusal(api.plan("quickstart", [OVER, override], project=project.root).findings)
    assert error is not None
    assert hint in error.mend


def test_another_target_s_base_is_not_what_a_base_was_before(project: Project) -> None:
    ran = plan(project, "quickstart", OVER)
    sync(project, [ran])
    train = ran.stage("train")
    locked = Locked(train.command, {train.spec_path: md5_text(train.spec_text())})
    locks = {train.pipeline: {train.name: locked}}

    def before(*given: str) -> dict[str, Any] | None:
        compiled = plan(project, "quickstart", *given)
        (over,) = (s for s in compiled.of("quantize") if "over" not in s.inputs)
        return replaced_spec(project, compiled, over, locks)

    smaller = before(OVER, "+target.cpu-int4.int4_block_size=16")
    assert smaller is not None
    assert smaller["config"]["target"]["int4_block_size"] == 32
    assert before("train.over=cpu-int8") is None


def test_adapters_of_a_recipe_have_one_base(project: Project) -> None:
    with pytest.raises(SlmcompileError, match="two is trained over cpu-int4, one over the full"):
        plan(project, "pair", "+adapters.two.train.over=cpu-int4")
