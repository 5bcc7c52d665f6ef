"""A proposal is what two commits say, under the policy of a third; nothing of them executes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmcompile.ci.comment import comment
from slmcompile.ci.proposal import Problem, Proposal, RecipeEntry, read
from slmcompile.ci.propose import propose
from slmcompile.cli.main import main
from slmcompile.console.errors import MissingError
from slmcompile.execution.sync import compile_recipe
from slmcompile.files.revision import resolve
from slmcompile.plans.kinds import KINDS
from slmcompile.provenance.envelope import open_sealed, seal
from slmcompile.provenance.statement import StageResult, Statement
from slmcompile.recipe.project import Project
from tests.projects import command, commit, make_repository, slmcompile
from tests.statements import private_pem, public_pem
from tests.unit.test_revision import hostile, snapshot

RECIPE = "recipes/tiny.yaml"
DATA = "data/tiny/commands.jsonl"
OUTS = f"outs:\n- md5: {'ab' * 16}\n"
POLICY = "conf/policy/default.yaml"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_repository(tmp_path_factory.mktemp("template").resolve())
    slmcompile(root, "sync", "--all")
    append(root, RECIPE, "gates:\n- {metric: accuracy, artifact: torch, min: 0.5}\n")
    slmcompile(root, "sync", "--all")
    commit(root, "generated")
    command(root, "git", "branch", "target")
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    return Project(shutil.copytree(template, tmp_path.resolve() / "here"))


def append(root: Path, path: str, text: str) -> None:
    with (root / path).open("a", encoding="utf-8") as stream:
        stream.write(text)


def replace(project: Project, path: str, old: str, new: str) -> None:
    text = (project.root / path).read_text(encoding="utf-8")
    assert old in text
    (project.root / path).write_text(text.replace(old, new), encoding="utf-8")


def write(project: Project, path: str, text: str) -> None:
    full = project.root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text(text, encoding="utf-8")


def faster(project: Project) -> None:
    """What retrains the recipe tiny."""
    append(project.root, RECIPE, "train: {learning_rate: 0.003}\n")


def proposed(project: Project) -> Proposal:
    """Of all that lies there now, committed."""
    commit(project.root, "proposed")
    return of_head(project)


def of_head(project: Project) -> Proposal:
    root = project.root
    return propose(project, resolve(root, "HEAD"), resolve(root, "target"))


def only(proposal: Proposal) -> RecipeEntry:
    (entry,) = proposal.recipes
    return entry


def offered(found: Proposal) -> bool:
    """Whether the comment has a line to approve by."""
    return f"\n/train {found.digest}\n" in comment(found)


def test_a_key_is_told_with_the_stages_that_it_moves(project: Project) -> None:
    faster(project)
    found = proposed(project)
    entry = only(found)
    assert (entry.recipe, entry.status, found.unchanged) == ("tiny", "changed", 1)
    ((key, old, new),) = [(key.key, key.old, key.new) for key in entry.keys]
    assert (key, old, new) == ("train.learning_rate", "0.005", "0.003")
    moved = {stage.stage: stage.reasons for stage in entry.stages}
    assert moved["train"] == ("train.learning_rate 0.005 → 0.003",)
    assert moved["export-cpu-fp32"] == ()
    assert "data" not in moved
    assert "base" not in moved
    assert (found.problems, found.judged, entry.bars) == ((), (), ())
    assert (entry.rows, entry.measured) == (False, False)
    assert offered(found)


def test_the_work_tree_has_no_part_in_it(project: Project, tmp_path: Path) -> None:
    faster(project)
    found = proposed(project)
    command(tmp_path, "git", "clone", "-q", "--no-local", str(project.root), "clone")
    command(tmp_path / "clone", "git", "branch", "target", "origin/target")
    (project.root / RECIPE).write_text("nothing: [", encoding="utf-8")
    (project.root / DATA).unlink()
    shutil.rmtree(project.conf)
    before = snapshot(project.root)
    assert of_head(project) == found
    assert snapshot(project.root) == before
    assert of_head(Project((tmp_path / "clone").resolve())) == found


def test_what_the_target_got_meanwhile_is_not_proposed(project: Project) -> None:
    command(project.root, "git", "checkout", "-q", "-b", "mine")
    faster(project)
    before = proposed(project)
    command(project.root, "git", "checkout", "-q", "target")
    append(project.root, "recipes/quickstart.yaml", "seed: 5\n")
    commit(project.root, "meanwhile")
    command(project.root, "git", "checkout", "-q", "mine")
    after = of_head(project)
    assert after.policy != before.policy
    assert (after.recipes, after.base, after.digest) == (before.recipes, before.base, before.digest)


def test_every_push_makes_another_digest(project: Project) -> None:
    faster(project)
    first = proposed(project)
    write(project, "README.md", "more\n")
    second = proposed(project)
    assert second.recipes == first.recipes
    assert second.digest != first.digest
    command(project.root, "git", "reset", "-q", "--hard", "HEAD~1")
    assert of_head(project).digest == first.digest


def test_what_was_approved_fits_one_state_alone(project: Project) -> None:
    """Case digest-replayed: the same files upon another commit are another thing to approve."""
    faster(project)
    first = proposed(project)
    head = command(project.root, "git", "rev-parse", "HEAD").stdout.strip()
    command(project.root, "git", "checkout", "-q", "target")
    write(project, "README.md", "nothing of a recipe\n")
    commit(project.root, "another base")
    command(project.root, "git", "checkout", "-q", "-b", "again")
    ann = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
    command(project.root, "git", *ann, "cherry-pick", head)
    again = of_head(project)
    assert first.recipes == again.recipes
    assert first.digest != again.digest
    command(project.root, "git", "checkout", "-q", head)
    assert of_head(project).digest == first.digest


def forged(project: Project) -> Statement:
    """A statement of the very work that the recipe plans, of which nothing was ever done."""
    plan = compile_recipe(project, "tiny")
    found = plan.fingerprints()
    return Statement(
        recipe="tiny",
        effective="0" * 64,
        digest=None,
        head=None,
        base=None,
        pull_request=7,
        approver="ann",
        tool="1.0.0",
        packages={},
        materials={},
        stages=tuple(
            StageResult(
                each.address,
                each.kind,
                found[each.address],
                "" if KINDS[each.kind].constant else "0" * 64,
                f"{'0' * 32}.dir",
                1,
            )
            for each in plan.stages()
        ),
        subjects={"train/a": "0" * 64},
        gates=(),
        metrics={},
    )


def test_what_a_head_says_of_its_cost_is_not_forecast(project: Project) -> None:
    """Cases index-edited and journal-edited: two minutes, all in the cache, trained already."""
    faster(project)
    honest = proposed(project).forecast
    write(project, "pipelines/tiny/plots/train.json", '{"wall_seconds": 120}')
    path = project.pipelines / "tiny/statement.json"
    path.write_bytes(seal(forged(project), None))
    assert open_sealed(path.read_bytes(), "statement").statement.recipe == "tiny"
    told = proposed(project).forecast
    assert honest == told
    ((finished, seconds, stated),) = [(it.finished, it.seconds, it.stated) for it in told]
    assert (finished, seconds, stated) == (0, None, False)


@pytest.mark.parametrize("name", ["base-e0fb534b", "answer-base-01234567", "checks", "gates"])
def test_a_recipe_takes_no_name_that_others_write_to(project: Project, name: str) -> None:
    write(project, f"recipes/{name}.yaml", (project.root / RECIPE).read_text(encoding="utf-8"))
    (problem,) = proposed(project).problems
    assert problem.what.startswith(f"recipes/{name}.yaml: the recipe's name is that of another")
    assert problem.code == 78


def test_overrides_that_a_run_has_left_count_for_nothing(project: Project) -> None:
    faster(project)
    found = proposed(project)
    write(project, "pipelines/tiny/overrides.yaml", "- gates=[]\n- train.seed=9\n")
    assert proposed(project).recipes == found.recipes


def test_each_bar_that_goes_or_comes_is_told(project: Project) -> None:
    bars = ("accuracy", 0.5), ("accuracy", 0.1), ("f1_macro", 0.2), ("exact_match", 0.3)
    gates = [f"- {{metric: {name}, artifact: torch, min: {bar}}}\n" for name, bar in bars]
    replace(project, RECIPE, gates[0], "".join(gates[1:]))
    found = proposed(project)
    told = [(bar.old, bar.new) for bar in only(found).bars]
    assert told == [
        ("accuracy of torch ≥ 0.5", "none"),
        ("none", "accuracy of torch ≥ 0.1"),
        ("none", "f1_macro of torch ≥ 0.2"),
        ("none", "exact_match of torch ≥ 0.3"),
    ]
    shown = comment(found)
    assert shown.index("**takes the bar**") < shown.index("adds the bar") < shown.index("<details")


def test_a_new_recipe_tells_its_bars(project: Project) -> None:
    write(project, "recipes/new.yaml", "defaults: [tiny, _self_]\n")
    entry = only(proposed(project))
    assert (entry.recipe, entry.status) == ("new", "added")
    assert [bar.new for bar in entry.bars] == ["accuracy of torch ≥ 0.5"]


@pytest.mark.parametrize(
    ("path", "old", "new", "rows", "measured"),
    [
        (DATA, "}\n", '}\n{"text": "more", "label": "on"}\n', True, False),
        ("conf/data/tiny-commands.yaml", "test: 0.15", "test: 0.3", True, False),
        (RECIPE, "max_new_tokens: 8", "max_new_tokens: 9", False, True),
    ],
)
def test_other_test_rows_and_another_way_to_measure_are_told(
    project: Project, path: str, old: str, new: str, rows: bool, measured: bool
) -> None:
    text = (project.root / path).read_text(encoding="utf-8")
    write(project, path, text.replace(old, new, 1))
    found = proposed(project)
    assert (only(found).rows, only(found).measured) == (rows, measured)
    assert "figures do not compare" in comment(found)


def test_a_recipe_renamed_over_another_is_a_change_and_a_removal(project: Project) -> None:
    """Case renamed-over."""
    (project.recipes / "quickstart.yaml").rename(project.root / RECIPE)
    found = proposed(project)
    assert [(entry.recipe, entry.status) for entry in found.recipes] == [
        ("quickstart", "removed"),
        ("tiny", "changed"),
    ]
    assert ("accuracy of torch ≥ 0.5", "none") in [(b.old, b.new) for b in found.recipes[1].bars]


def test_a_recipe_that_does_not_compile_is_one_of_several(project: Project) -> None:
    faster(project)
    write(project, "recipes/bad.yaml", "defaults: [tiny, _self_]\ntrian: {}\n")
    found = proposed(project)
    bad, tiny = found.recipes
    assert bad.status == "refused"
    assert bad.problem is not None
    assert bad.problem.code == 78
    assert "recipes/bad.yaml:2: trian: unknown key" in bad.problem.what
    assert tiny.status == "changed"
    assert not offered(found)


MINE = "train: {loss: {type: python, file: losses/mine.py, name: Mine}}\n"
CODE = "open('CANARY', 'w')\nclass Mine:\n    def __call__(self, logits, targets, positions): ...\n"


def test_code_is_named_with_its_hash_and_not_executed(project: Project) -> None:
    replace(
        project, "conf/policy/default.yaml", "plugins: []", "plugins: []\ncode: [losses/mine.py]"
    )
    commit(project.root, "allowed")
    command(project.root, "git", "branch", "-f", "target")
    append(project.root, RECIPE, MINE)
    write(project, "losses/mine.py", CODE)
    first = proposed(project)
    (code,) = only(first).executes
    assert (code.path, code.changed) == ("losses/mine.py", True)
    assert f"{code.path}</code>, **changed**, SHA-256 <code>{code.sha256}" in comment(first)
    assert not first.problems
    command(project.root, "git", "branch", "-f", "target")
    replace(project, RECIPE, "name: Mine}}", "name: Mine}, learning_rate: 0.003}")
    (code,) = only(proposed(project)).executes
    assert not code.changed
    assert not list(project.root.rglob("CANARY"))


def test_a_policy_of_its_own_allows_nothing(project: Project) -> None:
    replace(
        project, "conf/policy/default.yaml", "plugins: []", "plugins: []\ncode: [losses/mine.py]"
    )
    append(project.root, RECIPE, MINE)
    write(project, "losses/mine.py", CODE)
    found = proposed(project)
    assert {problem.code for problem in found.problems} == {77}
    assert any("losses/mine.py" in problem.what for problem in found.problems)
    assert any("the policy changes beside recipes" in each.what for each in found.refused)
    assert not offered(found)


def test_bytes_that_git_does_not_hold_cannot_be_proposed(project: Project) -> None:
    """Neither DVC's cache nor the file that lies there stands in for what will be read."""
    faster(project)
    kept = (project.root / DATA).read_bytes()
    command(project.root, "git", "rm", "-q", "--cached", DATA)
    write(project, f"{DATA}.dvc", f"{OUTS}  path: commands.jsonl\n")
    write(project, "data/tiny/.gitignore", "/commands.jsonl\n")
    found = proposed(project)
    assert (project.root / DATA).read_bytes() == kept
    problem = only(found).problem
    assert problem is not None
    assert problem.code == 69
    assert f"{DATA}: git does not hold its bytes" in problem.what


def test_what_could_not_be_planned_before_keeps_no_other_from_being_trained(
    project: Project,
) -> None:
    for name in ("bad", "worse"):
        write(project, f"recipes/{name}.yaml", TRACKED)
    write(project, "data/tracked.jsonl.dvc", POINTER)
    commit(project.root, "before")
    command(project.root, "git", "branch", "-f", "target")
    replace(project, "recipes/worse.yaml", "seed: 1", "seed: 2")
    faster(project)
    found = proposed(project)
    assert [(entry.recipe, entry.status) for entry in found.recipes] == [
        ("tiny", "changed"),
        ("worse", "refused"),
    ]
    assert found.unchanged == 2


POINTER = f"{OUTS}  path: tracked.jsonl\n"
TRACKED = """\
defaults: [{model: tiny-llama}, {data: tiny-commands}, {train: tiny}, {eval: text}, _self_]
data: {source: {path: data/tracked.jsonl}}
train: {seed: 1}
"""


CMD = "stages: {x: {cmd: touch CANARY, outs: [y]}}\n"
BESIDE = {
    ".github/workflows/ci.yml": "on: push\n",
    ".GitHub/workflows/ci.yml": "on: push\n",
    "deep/.github/actions/x/action.yml": "x",
    ".gitlab-ci.yml": "x",
    ".gitattributes": "* filter=x\n",
    "data/.gitattributes": "* -text\n",
    ".gitmodules": "[submodule \"x\"]\n",
    ".lfsconfig": "[lfs]\n\turl = https://e.example\n",
    ".dvc/config": "[core]\n    remote = theirs\n",
    ".dvc/config.local": "[core]\n    remote = theirs\n",
    ".dvcignore": "*.jsonl\n",
    "sub/.dvcignore": "x\n",
    "dvc.yaml": CMD,
    "data/dvc.yaml": CMD,
    "data/tiny/dvc.lock": "x",
    "pipelines/tiny/dvc.yaml": CMD,
    "pipelines/zz/dvc.yaml": CMD,
    "pipelines/tiny/sub/dvc.yaml": CMD,
    "data/x.dvc": "cmd: touch CANARY\n" + f"{OUTS}  path: x\n",
    "data/y.dvc": "deps:\n- path: https://e.example\n" + f"{OUTS}  path: y\n",
    "data/z.dvc": "[",
    "outputs/tiny/train/x": "x",
    ".slmcompile/checkpoints/x": "x",
    "conf/policy/default.yaml": "allow_unlocked: true\n",
    "conf/policy/keys/mine.pem": "x",  # whose statements would be believed
    "plugins/mine/measure.py": "x",  # case metric-edited: what measures is the target's
}  # fmt: skip


@pytest.mark.parametrize("path", BESIDE)
def test_what_must_come_alone_keeps_a_recipe_from_being_trained(
    project: Project, path: str
) -> None:
    faster(project)
    write(project, path, BESIDE[path])
    command(project.root, "git", "add", "-f", path)
    found = proposed(project)
    (problem,) = found.refused
    assert problem.code == 77
    assert problem.what.startswith(f"{path}: ")
    assert not offered(found)


@pytest.mark.parametrize("path", ["data/dvc.yaml", "data/x.dvc", "pipelines/tiny/dvc.lock"])
def test_a_link_in_the_place_of_what_dvc_reads_is_refused(project: Project, path: str) -> None:
    faster(project)
    write(project, "data/stages.txt", CMD)
    (project.root / path).unlink(missing_ok=True)
    (project.root / path).symlink_to(project.root / "data/stages.txt")
    (problem,) = proposed(project).refused
    assert problem.what == f"{path}: is not a regular file"


def test_without_a_recipe_there_is_nothing_to_refuse(project: Project) -> None:
    write(project, ".github/workflows/ci.yml", "on: push\n")
    found = proposed(project)
    assert (found.recipes, found.refused, found.problems) == ((), (), ())
    assert not offered(found)


def test_generated_files_pointers_and_prose_may_come_along(project: Project) -> None:
    write(project, "recipes/new.yaml", "defaults: [tiny, _self_]\n")
    slmcompile(project.root, "sync", "--all")
    write(project, "data/x.dvc", f"{OUTS}  path: x\n")
    write(project, "pipelines/tiny/dvc.lock", "schema: '2.0'\n")
    write(project, "README.md", "words\n")
    found = proposed(project)
    assert (project.pipelines / "new/dvc.yaml").is_file()
    assert only(found).recipe == "new"
    assert found.problems == ()


def test_a_project_in_a_folder_of_its_repository_is_proposed(
    tmp_path: Path, template: Path
) -> None:
    outer = tmp_path.resolve() / "outer"
    project = Project(Path(shutil.copytree(template, outer / "inner")))
    (project.root / ".git").rename(outer / ".git")
    commit(outer, "moved")
    command(outer, "git", "branch", "-f", "target")
    faster(project)
    write(project, "../.github/workflows/ci.yml", "x")
    write(project, "dvc.yaml", CMD)
    commit(outer, "proposed")
    found = of_head(project)
    assert only(found).recipe == "tiny"
    assert [problem.what.partition(":")[0] for problem in found.refused] == [
        ".github/workflows/ci.yml",
        "dvc.yaml",
    ]


def test_nothing_in_a_hostile_repository_executes(project: Project, tmp_path: Path) -> None:
    faster(project)
    canary = tmp_path / "canary"
    hostile(project, canary)
    canary.unlink(missing_ok=True)
    assert only(of_head(project)).status == "changed"
    assert not canary.exists()
    command(project.root, "git", "diff", "target", check=False)
    assert canary.exists(), "the payload is live: plain git runs it"


def test_commits_without_a_common_one_are_not_compared(project: Project) -> None:
    command(project.root, "git", "checkout", "-q", "--orphan", "alone")
    with pytest.raises(MissingError, match="no commit in common"):
        proposed(project)


def test_the_command_writes_the_document_and_then_tells_what_is_wrong(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    out = project.root.parent / "proposal.json"
    words = ["ci", "plan", "--against", "target", "--out", str(out), "--detailed-exitcode"]
    assert main(words) == 0
    faster(project)
    found = proposed(project)
    assert main(words) == 2
    assert read(out.read_bytes(), "x") == found
    # In a merge queue nothing is left to be trained.
    monkeypatch.setenv("GITHUB_EVENT_NAME", "merge_group")
    assert main(words) == 4
    assert "is not what was trained" in capsys.readouterr().err
    monkeypatch.delenv("GITHUB_EVENT_NAME")
    assert main(["ci", "comment", str(out)]) == 0
    assert comment(found) in capsys.readouterr().out
    write(project, ".dvcignore", "*\n")
    found = proposed(project)
    assert main(words) == 77
    assert read(out.read_bytes(), "x") == found
    assert main(["ci", "plan", "--against", "nowhere"]) == 64
    assert main(["ci", "plan", "--against", "target", "--out", RECIPE]) == 64
    capsys.readouterr()
    assert main(words[:4]) == 77
    assert json.loads(capsys.readouterr().out)["digest"] == found.digest


@pytest.mark.parametrize(
    ("trusted", "signed", "code"), [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 4), (1, 2, 4)]
)
def test_a_merge_queue_wants_the_statement_of_the_very_work(
    project: Project, monkeypatch: pytest.MonkeyPatch, trusted: int, signed: int, code: int
) -> None:
    monkeypatch.chdir(project.root)
    if trusted:
        write(project, "conf/policy/keys/ci.pem", public_pem(trusted).decode())
        commit(project.root, "trusts")
        command(project.root, "git", "branch", "-f", "target")
    faster(project)
    path = project.pipelines / "tiny/statement.json"
    path.write_bytes(seal(forged(project), private_pem(signed) if signed else None))
    commit(project.root, "proposed")
    words = ["ci", "plan", "--against", "target", "--out", str(project.root.parent / "it.json")]
    assert main(words) == 0
    monkeypatch.setenv("GITHUB_EVENT_NAME", "merge_group")
    assert main(words) == code
    # What is stated is other work than what would be merged.
    append(project.root, DATA, (project.root / DATA).read_text().splitlines()[0] + "\n")
    commit(project.root, "one more row")
    assert main(words) == 4


def test_a_problem_is_one_line(project: Project) -> None:
    faster(project)
    name = "a\u202e\x1b[2J\nb/.github/x"
    write(project, name, "x")
    (problem,) = proposed(project).refused
    assert isinstance(problem, Problem)
    assert problem.what.isprintable()
