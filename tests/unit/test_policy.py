"""The policy is the owners': read from where they say, and out of a recipe's reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmcompile.console.errors import BadRecipeError, RefusedError, UsageError
from slmcompile.recipe.compose import compose
from slmcompile.recipe.policy import FILE, Policy, load_policy, within_roots
from slmcompile.recipe.project import Project
from tests.projects import command, commit, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_project(tmp_path.resolve(), data=()))


def write(project: Project, text: str) -> None:
    (project.root / FILE).parent.mkdir(parents=True, exist_ok=True)
    (project.root / FILE).write_text(text, encoding="utf-8")


def test_the_built_in_policy_restricts_nothing(tmp_path: Path) -> None:
    assert load_policy(Project(tmp_path)) == Policy()


def test_a_projects_policy_extends_the_built_in_one(project: Project) -> None:
    write(project, "licenses: [Apache-2.0, MIT]\nmax_parameters: 1000000\n")
    policy = load_policy(project)
    assert policy.licenses == ("Apache-2.0", "MIT")
    assert policy.max_parameters == 1_000_000
    assert policy.plugins == ()
    assert policy.allow_unlocked is False


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("licences: [MIT]\n", "did you mean 'licenses'?"),
        ("\nmax_bytes: many\n", f"{FILE}:2: max_bytes"),
        ("licenses: MIT\n", f"{FILE}:1: licenses: must be a list (given 'MIT') write [MIT]"),
        ("\ndata_roots: [/]\n", f"{FILE}:2: data_roots: must be folders of the project"),
        ("\ndata_roots: [/data/..]\n", "absolute ones, not /"),
        ("data_roots: [data, ../x]\n", "not ../x"),
        ("data_roots: [data/../..]\n", "name them: [data], or [., /mnt/corpora]"),
    ],
)
def test_a_policy_that_says_nothing_valid_is_no_policy(
    project: Project, text: str, says: str
) -> None:
    write(project, text)
    with pytest.raises(BadRecipeError) as error:
        load_policy(project)
    assert says in f"{error.value.what} {error.value.mend}"


def test_a_pull_request_cannot_loosen_the_policy_of_the_base_branch(project: Project) -> None:
    write(project, "licenses: [MIT]\n")
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "policy")
    command(project.root, "git", "checkout", "--quiet", "-b", "request")
    write(project, "licenses: null\n")
    commit(project.root, "loosen")
    assert load_policy(project).licenses is None
    assert load_policy(project, "main").licenses == ("MIT",)
    (project.root / FILE).unlink()
    assert load_policy(project, "main").licenses == ("MIT",)


def test_a_project_below_the_top_of_a_repository_has_its_own_policy(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path.resolve() / "below", data=()))
    write(project, "licenses: [MIT]\n")
    command(tmp_path, "git", "init", "--quiet")
    commit(tmp_path, "policy")
    assert load_policy(project, "HEAD").licenses == ("MIT",)


def test_a_base_branch_without_a_policy_has_the_built_in_one(project: Project) -> None:
    (project.root / FILE).unlink()
    command(project.root, "git", "init", "--quiet")
    commit(project.root, "none")
    write(project, "allow_unlocked: true\n")
    assert load_policy(project, "HEAD") == Policy()


@pytest.mark.parametrize("ref", ["nowhere", "--help", "", "HEAD:recipes"])
def test_what_is_no_commit_is_refused(project: Project, ref: str) -> None:
    command(project.root, "git", "init", "--quiet")
    commit(project.root, "start")
    with pytest.raises(UsageError):
        load_policy(project, ref)


def test_a_policy_that_is_a_link_is_refused(project: Project) -> None:
    (project.root / FILE).unlink()
    (project.root / FILE).symlink_to(project.root / "recipes" / "tiny.yaml")
    command(project.root, "git", "init", "--quiet")
    commit(project.root, "link")
    for ref in (None, "HEAD"):
        with pytest.raises(RefusedError):
            load_policy(project, ref)


@pytest.mark.parametrize(
    "text",
    [
        "defaults: [tiny, {policy: default}, _self_]\n",
        "defaults: [tiny, {policy: none}, _self_]\n",
        "defaults: [tiny, {/policy: default}, _self_]\n",
        "defaults: [tiny, {override /policy: default}, _self_]\n",
        "defaults: [tiny, policy/default, _self_]\n",
        "defaults: [tiny, {model@policy: tiny-llama}, _self_]\n",
        "defaults: [tiny, _self_]\npolicy: {allow_unlocked: true}\n",
        "defaults: [tiny, {model: sly}, _self_]\n",
        "defaults: [tiny, {data: sly}, _self_]\n",
    ],
)
def test_a_recipe_cannot_name_or_contain_a_policy(project: Project, text: str) -> None:
    sly = "# @package _global_\npolicy: {allow_unlocked: true}\n"
    (project.conf / "model" / "sly.yaml").write_text(sly, encoding="utf-8")
    nested = "defaults: [{/policy: default}]\n"
    (project.conf / "data" / "sly.yaml").write_text(nested, encoding="utf-8")
    (project.recipes / "sly.yaml").write_text(text.replace("tiny,", ""), encoding="utf-8")
    with pytest.raises(RefusedError) as error:
        compose(project, "sly")
    assert "policy" in error.value.what


@pytest.mark.parametrize(
    "override",
    ["policy=default", "+policy=default", "~policy", "policy.allow_unlocked=true", "+policy@x=y",
     "+policy.plugins=[evil]", "policy/default=x", "+model@policy=tiny-llama"],
)  # fmt: skip
def test_an_override_cannot_touch_the_policy(project: Project, override: str) -> None:
    with pytest.raises(RefusedError):
        compose(project, "tiny", [override])


def test_data_roots_are_folders_and_not_prefixes(project: Project) -> None:
    policy = Policy(data_roots=("data/open", "./corpora/"))
    assert within_roots(policy, project, "data/open/x.jsonl")
    assert within_roots(policy, project, "corpora/x.jsonl")
    assert not within_roots(policy, project, "data/opened/x.jsonl")
    assert not within_roots(policy, project, "data/x.jsonl")
    assert within_roots(Policy(), project, "anything")
