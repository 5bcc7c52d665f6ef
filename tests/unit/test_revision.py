"""A git revision is read as data: nothing is checked out and nothing in it can execute."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from slmcompile.console.errors import BadRecipeError, RefusedError, SlmcompileError, UsageError
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain import named_files
from slmcompile.explain.at_revision import plan_at
from slmcompile.files.revision import find_version, resolve
from slmcompile.recipe.project import Project
from tests.projects import REPOSITORY, command, commit, make_repository

RECIPE = "recipes/tiny.yaml"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("template").resolve())


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    return Project(shutil.copytree(template, tmp_path.resolve() / "here"))


def write(project: Project, path: str, text: str, message: str = "edit") -> None:
    full = project.root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text(text, encoding="utf-8")
    commit(project.root, message)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_recipe_of_a_revision_is_that_of_a_checkout(project: Project, tmp_path: Path) -> None:
    write(
        project,
        "conf/train/tiny.yaml",
        (project.conf / "train/tiny.yaml").read_text() + "seed: 4\n",
    )
    data = project.root / "data/tiny/commands.jsonl"
    write(project, "data/tiny/commands.jsonl", data.read_text() * 2)
    before = snapshot(project.root)
    past = plan_at(project, resolve(project.root, "HEAD~2"), "tiny").plan
    assert past is not None
    assert snapshot(project.root) == before
    command(tmp_path, "git", "clone", "-q", str(project.root), "clone")
    command(tmp_path / "clone", "git", "checkout", "-q", "HEAD~2")
    checkout = compile_recipe(Project((tmp_path / "clone").resolve()), "tiny", ())
    assert past == checkout
    assert past.fingerprints() != compile_recipe(project, "tiny", ()).fingerprints()


def test_a_project_in_a_folder_of_its_repository_is_found(tmp_path: Path) -> None:
    project = Project(make_repository(tmp_path.resolve() / "outer" / "inner"))
    (project.root / ".git").rename(project.root.parent / ".git")
    commit(project.root, "moved")
    past = plan_at(project, resolve(project.root, "HEAD"), "tiny").plan
    assert past == compile_recipe(project, "tiny", ())


def test_overrides_apply_to_a_revision(project: Project) -> None:
    past = plan_at(project, resolve(project.root, "HEAD"), "tiny", ["train.seed=7"]).plan
    assert past == compile_recipe(project, "tiny", ["train.seed=7"])


def test_a_recipe_that_was_not_there_yet_has_no_plan(project: Project) -> None:
    write(project, "recipes/new.yaml", "defaults: [tiny, _self_]\n")
    assert plan_at(project, resolve(project.root, "HEAD~1"), "new").plan is None


@pytest.mark.parametrize(
    "name", ["--help", "-x", "", "nowhere", "HEAD:recipes", "HEAD\n", "--output=canary", "HEAD~99"]
)
def test_what_is_no_revision_is_refused(project: Project, name: str) -> None:
    before = snapshot(project.root)
    with pytest.raises(UsageError) as caught:
        resolve(project.root, name)
    assert caught.value.code == 64
    assert snapshot(project.root) == before


def test_a_folder_without_git_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(SlmcompileError) as caught:
        resolve(tmp_path.resolve(), "HEAD")
    assert caught.value.code == 69


def test_an_error_names_the_revision_and_the_line(project: Project) -> None:
    text = (project.root / RECIPE).read_text(encoding="utf-8")
    write(project, RECIPE, text + "trian: {}\n")
    write(project, RECIPE, text)
    with pytest.raises(SlmcompileError) as caught:
        plan_at(project, resolve(project.root, "HEAD~1"), "tiny")
    line = text.count("\n") + 1
    assert caught.value.what.startswith("HEAD~1 (")
    assert f"recipes/tiny.yaml:{line}: trian: unknown key" in caught.value.what
    assert caught.value.code == BadRecipeError.code


def hostile(project: Project, canary: Path) -> None:
    """Everything in a repository and its settings that makes git or Hydra run a program."""
    script = project.root / "evil.sh"
    script.write_text(f"#!/bin/sh\necho $0 $@ >> {canary}\n", encoding="utf-8")
    script.chmod(0o755)
    hooks = project.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-commit"):
        (hooks / hook).write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    write(project, ".gitattributes", "* filter=evil diff=evil text eol=crlf\n")
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-commit"):
        (hooks / hook).chmod(0o755)
    for key, value in {
        "filter.evil.smudge": str(script),
        "filter.evil.clean": str(script),
        "filter.evil.process": str(script),
        "diff.evil.textconv": str(script),
        "diff.external": str(script),
        "core.fsmonitor": str(script),
        "core.pager": str(script),
        "core.editor": str(script),
        "core.sshCommand": str(script),
        "core.alternateRefsCommand": str(script),
        "gpg.program": str(script),
        "log.showSignature": "true",
        "credential.helper": f"!{script}",
        "alias.rev-parse": f"!{script}",
        "alias.cat-file": f"!{script}",
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "evil",
        "remote.evil.url": f"ext::{script}",
        "remote.evil.promisor": "true",
        "remote.evil.uploadpack": str(script),
        "protocol.ext.allow": "always",
    }.items():
        command(project.root, "git", "config", key, value)


def test_nothing_in_a_hostile_repository_executes(project: Project, tmp_path: Path) -> None:
    clean = compile_recipe(project, "tiny", ())
    canary = tmp_path / "canary"
    hostile(project, canary)
    assert resolve(project.root, "HEAD").commit
    canary.unlink(missing_ok=True)
    past = plan_at(project, resolve(project.root, "HEAD"), "tiny").plan
    assert past == clean, "no filter and no end-of-line conversion took part"
    find_version(project.root, RECIPE, "0" * 32)
    assert not canary.exists()
    command(project.root, "git", "status", check=False)
    assert canary.exists(), "the payload is live: plain git runs it"


def test_a_blob_that_is_missing_is_not_fetched(project: Project, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    blob = command(project.root, "git", "rev-parse", f"HEAD:{RECIPE}").stdout.strip()
    hostile(project, canary)
    canary.unlink(missing_ok=True)
    stored = project.root / ".git" / "objects" / blob[:2] / blob[2:]
    stored.chmod(0o644)
    stored.unlink()
    with pytest.raises(SlmcompileError) as caught:
        plan_at(project, resolve(project.root, "HEAD"), "tiny")
    assert caught.value.code == 74
    assert not canary.exists()
    command(project.root, "timeout", "10", "git", "cat-file", "blob", blob, check=False)
    assert canary.exists(), "the payload is live: plain git asks the remote"


def test_a_variable_of_the_caller_does_not_lead_to_another_repository(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = resolve(project.root, "HEAD").commit
    other = make_repository(tmp_path / "other")
    commit(other, "more")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert resolve(project.root, "HEAD").commit == here


def test_a_link_in_a_revision_is_not_followed(project: Project) -> None:
    (project.recipes / "linked.yaml").symlink_to("/etc/passwd")
    commit(project.root, "link")
    revision = resolve(project.root, "HEAD")
    assert "recipes/linked.yaml" not in revision.entries("recipes")
    assert plan_at(project, revision, "linked").plan is None


def tree(project: Project, lines: str) -> str:
    """A commit of a tree that `git add` would not make."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    done = command(project.root, "git", *identity, "commit-tree", made(project, lines), "-m", "x")
    return done.stdout.strip()


def made(project: Project, lines: str) -> str:
    """A tree of git."""
    return command(project.root, "sh", "-c", f"printf '{lines}' | git mktree").stdout.strip()


def test_a_path_that_leaves_the_folder_is_refused(project: Project, tmp_path: Path) -> None:
    blob = command(project.root, "git", "rev-parse", f"HEAD:{RECIPE}").stdout.strip()
    above = made(project, f"100644 blob {blob}\\tescaped.yaml\\n")
    recipes = f"040000 tree {above}\\t..\\n100644 blob {blob}\\ttiny.yaml\\n"
    evil = tree(project, f"040000 tree {made(project, recipes)}\\trecipes\\n")
    with pytest.raises(RefusedError):
        plan_at(project, resolve(project.root, evil), "tiny")
    assert not list(tmp_path.rglob("escaped.yaml"))


def test_a_recipe_that_is_too_large_is_not_read(project: Project) -> None:
    write(project, RECIPE, "#" * 300_000)
    with pytest.raises(SlmcompileError, match="larger than") as caught:
        plan_at(project, resolve(project.root, "HEAD"), "tiny")
    assert caught.value.code == 78


def test_a_revision_of_endless_groups_is_refused_before_they_are_read(project: Project) -> None:
    blob = command(project.root, "git", "rev-parse", f"HEAD:{RECIPE}").stdout.strip()
    group = made(
        project, "".join(f"100644 blob {blob}\\tg{number:05}.yaml\\n" for number in range(5))
    )
    groups = "".join(f"040000 tree {group}\\tg{number:05}\\n" for number in range(5001))
    (project.root / "listed").write_bytes(groups.encode().decode("unicode_escape").encode())
    conf = command(project.root, "sh", "-c", "git mktree < listed").stdout.strip()
    recipes = command(project.root, "git", "rev-parse", "HEAD:recipes").stdout.strip()
    evil = tree(project, f"040000 tree {conf}\\tconf\\n040000 tree {recipes}\\trecipes\\n")
    with pytest.raises(SlmcompileError) as caught:
        plan_at(project, resolve(project.root, evil), "tiny")
    assert caught.value.code == 77


def test_data_behind_a_git_lfs_pointer_has_the_hash_of_the_data(project: Project) -> None:
    data = project.root / "data/tiny/commands.jsonl"
    sha = hashlib.sha256(data.read_bytes()).hexdigest()
    now = compile_recipe(project, "tiny", ())
    size = data.stat().st_size
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {size}\n"
    write(project, "data/tiny/commands.jsonl", pointer)
    assert plan_at(project, resolve(project.root, "HEAD"), "tiny").plan == now


def test_data_that_dvc_tracks_comes_from_its_cache(project: Project) -> None:
    data = project.root / "data/tiny/commands.jsonl"
    now = compile_recipe(project, "tiny", ())
    content = data.read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    kept = project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    data.unlink()
    write(project, "data/tiny/commands.jsonl.dvc", f"outs:\n- md5: {md5}\n  path: commands.jsonl\n")
    assert plan_at(project, resolve(project.root, "HEAD"), "tiny").plan == now
    write(project, "data/tiny/commands.jsonl.dvc", "outs:\n- md5: ../../../../etc/passwd\n")
    with pytest.raises(SlmcompileError) as caught:
        plan_at(project, resolve(project.root, "HEAD"), "tiny")
    assert caught.value.code == 65


@pytest.mark.parametrize("leaf", ["100644 blob {blob}\\tf", "040000 tree {empty}\\tf"])
def test_a_tree_without_end_is_not_listed_to_its_end(project: Project, leaf: str) -> None:
    blob = command(project.root, "git", "rev-parse", f"HEAD:{RECIPE}").stdout.strip()
    folder = leaf.format(blob=blob, empty=made(project, ""))
    for _ in range(9):
        folder = (
            "040000 tree "
            + made(project, "".join(f"{folder[:-1]}{letter}\\n" for letter in "abcdefghij"))
            + "\\tf"
        )
    files = command(project.root, "git", "ls-tree", "HEAD").stdout
    bomb = folder.replace("\\tf", "\\tbomb\\n")
    beside = resolve(project.root, tree(project, f"{files}{bomb}"))
    assert plan_at(project, beside, "tiny").plan == compile_recipe(project, "tiny", ())
    conf = command(project.root, "git", "ls-tree", "HEAD:conf").stdout
    files = files.replace(
        command(project.root, "git", "rev-parse", "HEAD:conf").stdout.strip(),
        made(project, f"{conf}{bomb}"),
    )
    with pytest.raises(RefusedError, match="more files than can be listed"):
        plan_at(project, resolve(project.root, tree(project, files)), "tiny")


def error_at_head(project: Project, name: str) -> SlmcompileError:
    with pytest.raises(SlmcompileError) as caught:
        plan_at(project, resolve(project.root, "HEAD"), name)
    return caught.value


@pytest.mark.parametrize(("files", "size"), [(1001, 0), (1, 2 << 20)])
def test_more_data_than_can_be_written_out_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, files: int, size: int
) -> None:
    monkeypatch.setattr(named_files, "_MOST_DATA_BYTES", 1 << 20)
    (project.root / "model").mkdir()
    for number in range(files):
        (project.root / f"model/{number}").write_bytes(bytes(size))
    folder_recipe(project, "model")
    commit(project.root, "a bomb")
    error = error_at_head(project, "mine")
    assert error.code == 77
    assert "model, data/tiny/commands.jsonl: more than 1000 files or 1 MB in git" in error.what


def folder_recipe(project: Project, path: str) -> None:
    (project.conf / "model/mine.yaml").write_text(
        f"name: mine\nlicense: MIT\nsource: {{type: folder, path: {path}}}\n", encoding="utf-8"
    )
    (project.recipes / "mine.yaml").write_text(
        "defaults: [{model: mine}, {data: tiny-commands}, {train: tiny}, {eval: text},"
        " {target: [cpu-fp32]}, _self_]\n",
        encoding="utf-8",
    )


def test_a_text_that_is_no_path_brings_no_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_files, "_MOST_DATA_BYTES", 1 << 20)
    write(project, "data/large", "x" * (2 << 20))
    text = re.sub("(?m)^description:.*\n", "", (project.root / RECIPE).read_text(encoding="utf-8"))
    write(project, RECIPE, f"{text}description: data/large\n")
    assert plan_at(project, resolve(project.root, "HEAD"), "tiny").plan is not None


@pytest.mark.parametrize("path", ["mine", "models/mine"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_model_folder_is_found_wherever_it_lies(
    project: Project, path: str, committed: bool
) -> None:
    folder_recipe(project, f"./{path}/")
    (project.root / path).mkdir(parents=True)
    (project.root / path / "config.json").write_text("{}")
    if not committed:
        (project.root / ".git/info/exclude").write_text(f"/{path}/\n")
    commit(project.root, "a model")
    past = plan_at(project, resolve(project.root, "HEAD"), "mine")
    assert past.plan == compile_recipe(project, "mine", ())
    assert past.borrowed == (() if committed else (path,))


@pytest.mark.parametrize("path", ["model", "model/sub", "model/sub/link"])
def test_no_file_behind_a_link_stands_in_for_one_that_git_lacks(
    project: Project, path: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (project.root / "model/sub").mkdir(parents=True)
    (project.root / "model/sub/link").symlink_to(tmp_path / "outside")
    (project.root / ".git/info/exclude").write_text("/model/\n")
    folder_recipe(project, path)
    commit(project.root, "a link")
    error = error_at_head(project, "mine")
    assert error.code == 77
    assert "model/sub/link goes through a symbolic link" in error.what


@pytest.mark.parametrize(("path", "code"), [(".git/objects", 77), (".dvc/cache", 77), (".", 69)])
def test_no_folder_of_git_or_dvc_is_a_model(project: Project, path: str, code: int) -> None:
    folder_recipe(project, path)
    commit(project.root, "odd")
    error = error_at_head(project, "mine")
    assert error.code == code
    assert f"model.source.path: {path}" in error.what


@pytest.mark.parametrize(
    "outs",
    [
        "[{md5: 2001-99-99, path: a}]",
        f"[{{md5: {'9' * 6000}, path: a}}]",
        "[{md5: ../../../../etc/passwd, path: a}]",
        "[{md5: /etc/passwd, path: a}]",
        "[" * 3000,
        "&a [*a, *a]",
        "{}",
        "[1]",
    ],
)
def test_a_dvc_file_that_is_none_leads_nowhere(project: Project, outs: str) -> None:
    command(project.root, "git", "rm", "-q", "--cached", "data/tiny/commands.jsonl")
    (project.root / ".git/info/exclude").write_text("/data/tiny/commands.jsonl\n")
    write(project, "data/tiny/commands.jsonl.dvc", f"outs: {outs}\n")
    error = error_at_head(project, "tiny")
    assert error.code == 65
    assert "data/tiny/commands.jsonl: no such file" in error.what


def test_data_outside_git_is_todays_and_said_so(project: Project) -> None:
    content = (project.root / "data/tiny/commands.jsonl").read_bytes()
    command(project.root, "git", "rm", "-q", "--cached", "-r", "data")
    (project.root / ".gitignore").write_text("/data/\n/.dvc/cache/\n", encoding="utf-8")
    commit(project.root, "data is not ours to publish")
    past = plan_at(project, resolve(project.root, "HEAD"), "tiny")
    assert past.borrowed == ("data/tiny/commands.jsonl",)
    assert past.plan is not None
    assert past.plan.files[past.borrowed[0]] == hashlib.sha256(content).hexdigest()


def test_the_shipped_recipes_compile_from_the_last_commit() -> None:
    project = Project(REPOSITORY)
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a checkout")
    for name in project.names():
        assert plan_at(project, resolve(REPOSITORY, "HEAD"), name).borrowed == ()
