"""A budget that cannot be held, or is of nothing, is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slmcompile.checks.rules.budget import estimated
from slmcompile.console.errors import BadRecipeError
from slmcompile.execution.sync import compile_recipe
from slmcompile.facts.architecture import architecture_of
from slmcompile.plans.budgets import auto_targets
from slmcompile.plans.definition import Plan
from slmcompile.providers import PROVIDERS
from slmcompile.providers.keys import MOST_CANDIDATES
from slmcompile.recipe.project import Project
from tests.unit.checks.judging import context, judged, make

AUTO = ("target=[cpu-auto]",)
KEY = "target.cpu-auto"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make(tmp_path_factory.mktemp("project"))


def planned(project: Project, *overrides: str, target: str = "cpu-auto") -> Plan:
    return compile_recipe(project, "tiny", [f"target=[{target}]", *overrides])


@pytest.mark.parametrize(
    ("overrides", "said", "mend"),
    [
        (["+target.cpu-auto.budget.metric=f2"], "budget.metric: must be", "exact_match"),
        (["+target.cpu-auto.budget.metric=chrf"], "chrf is not measured", "eval.metrics"),
        (["+target.cpu-auto.budget.metric=perplexity"], "no largest value", "max_drop"),
        (["+target.cpu-auto.budget.max_sise=4"], "unknown key", "max_size"),
        (["+target.cpu-auto.budget.max_size=0"], "must be more than 0", ""),
        (["eval.metrics=[perplexity]"], "no metric of eval.metrics tells", "max_drop"),
        (["+target.cpu-auto.adapters=beside"], "are merged", "take adapters out"),
        (["+train.over=cpu-auto"], "train.over merges nothing", "precision"),
        (["target.cpu-auto.precision=int4", "+target.cpu-auto.budget={max_drop: 0.1}"],
         "target.cpu-auto.budget: is of a target whose precision is chosen", "precision: auto"),
        (["target.cpu-auto.precision=int4", "+target.cpu-auto.candidates={a: {precision: int8}}"],
         "target.cpu-auto.candidates: is of a target whose precision is chosen", "auto"),
        (["+target.cpu-auto.candidates={a: {precision: int3}}"],
         "target.cpu-auto.candidates.a.precision: must be", "int8"),
        (["+target.cpu-auto.candidates={a: {precision: auto}}"], "is to be chosen", "precision"),
        (["+target.cpu-auto.candidates={a: {precision: int4, block: 16}}"],
         "target.cpu-auto.candidates.a.block: unknown key", ""),
        (["+target.cpu-auto.candidates={a: {precision: int4, adapters: merged}}"],
         "candidates.a.adapters: is the target's", "say it once"),
        (["+target.cpu-auto.candidates={a: int4}"], "must be a section", ""),
        (["+target.cpu-auto.candidates={a--b: {precision: int8}}"], "a name with --", ""),
        ([f"+target.cpu-auto.candidates={{{'a' * 60}: {{precision: int8}}}}"], "longer than", ""),
        (["+target.cpu-auto.candidates={"
          + ", ".join(f"c{at}: {{precision: int8}}" for at in range(9)) + "}"],
         "8", ""),
        (["+target.cpu-auto.train_over=int3"], "no candidate is called 'int3'", "int4-k-quant"),
        (["target.cpu-auto.precision=int4", "+target.cpu-auto.train_over=int4"],
         "target.cpu-auto.train_over: is of a target whose precision is chosen", "auto"),
        (["+target.cpu-auto.candidates={a: {precision: int4, train_over: a}}"],
         "candidates.a.train_over: is the target's", "say it once"),
        (["+target.cpu-auto.candidates={a: {precision: int4}, over-a: {precision: int8}}",
          "+target.cpu-auto.train_over=a"], "is called over-a", "rename"),
        (["+target.cpu-auto-over-int4={execution_provider: cpu, precision: int8}",
          "+target.cpu-auto.train_over=int4"], "as one of the targets is", "rename"),
        (["+target.second={execution_provider: cpu, precision: auto, train_over: int8}",
          "+target.cpu-auto.train_over=int4"], "one training more", "take target.second"),
        ([f"+target.cpu-auto.candidates={{{'a' * 40}: {{precision: int8}}}}",
          f"+target.cpu-auto.train_over={'a' * 40}"], "longer than", "shorter"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_place_and_a_mend(
    project: Project, overrides: list[str], said: str, mend: str
) -> None:
    with pytest.raises(BadRecipeError) as caught:
        planned(project, *overrides)
    told = [(each.what, each.mend) for each in (caught.value, *caught.value.also)]
    assert any(said in what and mend in hint for what, hint in told), told


def test_a_size_that_no_candidate_can_have_is_refuted_with_the_nearest(project: Project) -> None:
    found = judged(context(project, *AUTO, f"+{KEY}.budget.max_size=0.05"), 41)
    assert found.outcome == "refuted"
    assert "int4-block-128, has 0.05786 MB" in found.evidence
    assert "0.0636" in found.mend
    held = judged(context(project, *AUTO, f"+{KEY}.budget.max_size=0.06"), 41)
    assert held.outcome == "proved"


def test_a_bar_on_speed_wants_the_runtime_here(project: Project) -> None:
    words = ("target=[cuda-int4]", "target.cuda-int4.precision=auto")
    bar = "+target.cuda-int4.budget.min_tokens_per_s=5"
    assert judged(context(project, *words), 41).outcome == "proved"
    found = judged(context(project, *words, bar), 41)
    assert found.outcome == "refuted"
    assert "speed on CUDA is not measured here" in found.evidence
    cpu = context(project, *AUTO, f"+{KEY}.budget.min_tokens_per_s=5")
    assert judged(cpu, 41).outcome == "proved"


def test_what_the_model_does_not_allow_is_left_out_or_refused_where_it_is_named(
    project: Project,
) -> None:
    narrow = "model.source.intermediate_size=96"
    known = context(project, *AUTO, narrow)
    assert judged(known, 12).outcome == "proved"
    (target,) = auto_targets(known.recipe).values()
    model = architecture_of(known)
    assert model is not None
    assert {*target.among} - {*estimated(target, model)} == {
        "int4-asymmetric",
        "int4-k-quant",
        "int4-k-quant-mixed",
        "mixed",
    }
    listed = f"+{KEY}.candidates={{mine: {{precision: int4, int4_algo_config: k_quant}}}}"
    found = judged(context(project, *AUTO, narrow, listed), 12)
    assert found.outcome == "refuted"
    assert "target.cpu-auto.candidates.mine.int4_block_size" in found.where


def test_all_candidates_are_counted_on_the_disk(project: Project) -> None:
    def sizes(*words: str) -> tuple[str, str]:
        known = context(project, *words)
        found = judged(known, 29, device=replace(known.device, disk_bytes=1))
        assert found.outcome == "refuted"
        return found.evidence, found.mend

    all_of_them, mend = sizes(*AUTO, "train=lora", "train.lora.r=2", "train.save_total_limit=1")
    one, _ = sizes("target=[cpu-fp32]")
    assert "target.cpu-auto.candidates" in mend

    def exports(evidence: str) -> float:
        return float(evidence.partition("exports ")[2].partition(" MB")[0])

    known = context(project, *AUTO)
    (target,) = auto_targets(known.recipe).values()
    model = architecture_of(known)
    assert model is not None
    assert exports(all_of_them) == pytest.approx(sum(estimated(target, model).values()), abs=0.06)
    assert exports(one) == pytest.approx(0.4, abs=0.06)


def test_every_key_of_a_choice_is_read(project: Project) -> None:
    listed = f"+{KEY}.candidates={{a: {{precision: int8}}}}"
    for words in ((), (listed,), (listed, f"+{KEY}.budget.limit=9", f"+{KEY}.budget.max_size=9")):
        assert judged(context(project, *AUTO, *words), 1).outcome == "proved"


def test_the_choice_is_confirmed_by_a_gate_of_its_budget(project: Project) -> None:
    def gate(*words: str) -> tuple[str, float]:
        (found,) = planned(project, *words).stage("gate").config["gates"]
        assert found["beyond_chance"]
        return found["metric"], found["max_drop"]

    assert gate() == ("exact_match", 0.03)
    assert gate(f"+{KEY}.budget.max_drop=0.1") == ("exact_match", 0.1)
    perplexity = [f"+{KEY}.budget.metric=perplexity", f"+{KEY}.budget.max_drop=0.2"]
    assert gate(*perplexity) == ("perplexity", 0.2)


def test_a_budget_is_in_the_fingerprint_of_its_choice_and_of_nothing_before_it(
    project: Project,
) -> None:
    def changed(*words: str) -> set[str]:
        before, after = planned(project).fingerprints(), planned(project, *words).fingerprints()
        return {
            address.partition("/")[2]
            for address in before.keys() | after.keys()
            if before.get(address) != after.get(address)
        }

    behind = {"choose-cpu-auto", "export-cpu-auto", "answer-cpu-auto", "score", "report", "gate"}
    assert changed(f"+{KEY}.budget.max_size=5") == {*behind, "check"}
    assert changed(f"+{KEY}.budget.max_drop=0.5") == {*behind, "check"}
    fewer = {name for name in changed(f"+{KEY}.budget.limit=5") if name.startswith("candidate")}
    assert not fewer
    # Speed is measured where a bar is on it, and nothing is built for that.
    timed = changed(f"+{KEY}.budget.min_tokens_per_s=5")
    assert not {name for name in timed if name.startswith(("candidate", "measure-torch"))}
    assert "measure-cpu-auto-int8" in timed


def test_recipes_without_a_choice_are_as_they_were(project: Project) -> None:
    plan = planned(project, target="cpu-int4")
    assert not [stage for stage in plan.stages() if stage.kind in {"candidate", "measure"}]
    assert plan.stage("export", "cpu-int4").config["target"].keys() == {
        "execution_provider",
        "precision",
        "int4_algo_config",
        "int4_block_size",
        "int4_is_symmetric",
    }
    assert (
        plan.effective["target"]["cpu-int4"].keys()
        == plan.stage("export", "cpu-int4").config["target"].keys()
    )


@pytest.mark.parametrize("name", [each for each, p in PROVIDERS.items() if p.candidates])
def test_what_providers_declare_is_of_their_own_keys_and_eight_at_most(name: str) -> None:
    provider = PROVIDERS[name]
    target = provider.section.model_validate({"execution_provider": name, "precision": "auto"})
    assert 2 <= len(target.among) <= MOST_CANDIDATES
    kinds = {each.model_dump_json() for each in target.among.values()}
    assert len(kinds) == len(target.among)


@pytest.mark.parametrize(
    ("overrides", "said", "where"),
    [
        (["train=full", "+target.cpu-auto.train_over=int4"],
         "no adapter stands beside a base", "train_over"),
        (["train.lora.use_dora=true", "+target.cpu-auto.train_over=int4"],
         "no adapter stands beside a base", "train_over"),
        (["train.method=qlora", "+target.cpu-auto.train_over=int4"],
         "holds the base in 4 bits of its own", "train_over"),
        (["+target.cpu-auto.train_over=mixed"], "measured with the adapter merged", "train_over"),
        (["+target.cpu-auto.candidates={k: {precision: int4, int4_algo_config: k_quant}}",
          "+target.cpu-auto.train_over=k", "model.source.intermediate_size=96"],
         "zero points", "int4_block_size"),
        (["model.source.intermediate_size=96", "+target.cpu-auto.train_over=int4-k-quant"],
         "zero points", "int4_block_size"),
    ],
)  # fmt: skip
def test_what_stands_beside_no_base_is_not_trained_over_a_candidate_s(
    project: Project, overrides: list[str], said: str, where: str
) -> None:
    known = context(project, *AUTO, *overrides)
    found = judged(known, 12)
    assert found.outcome == "refuted"
    assert said in found.evidence
    assert where in found.where


def test_the_order_is_proved_of_one_that_is_trained_over_its_own_base(project: Project) -> None:
    found = judged(context(project, *AUTO, f"+{KEY}.train_over=int4"), 11)
    assert found.outcome == "proved"
    assert "trained over it and kept in fp32 beside it" in found.evidence
    assert "8 merged into the base in fp32" in found.evidence
