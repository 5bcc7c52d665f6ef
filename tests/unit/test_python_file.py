"""Code that a recipe names is read, not imported: what it may hold, what it is known by."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slmcompile.base.facts import ModelFacts
from slmcompile.checks.judge import refusal
from slmcompile.checks.registry import all_checks
from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.data.report_facts import DataFacts
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.diff import compare, side_of
from slmcompile.explain.plan_text import plan_text
from slmcompile.explain.planned import plan_compiled, to_json
from slmcompile.explain.sides import diff
from slmcompile.explain.why import explain
from slmcompile.facts.context import CheckContext
from slmcompile.facts.gather import recipe_of
from slmcompile.files.artifact import MANIFEST, write_json
from slmcompile.lock.references import references
from slmcompile.machine.device import Device
from slmcompile.plans.definition import Plan
from slmcompile.recipe.project import Project
from slmcompile.state.changes import changes
from slmcompile.state.scratch import member_fingerprint, scratch_folder, work_fingerprint
from tests.loss_files import FILE, MINE, write_loss
from tests.pretend import pretend_run
from tests.projects import command, commit, make_project

ASKED = "train.loss={type: python, file: losses/mine.py, name: FirstCounts, options: {factor: 2}}"
CANARY = "raise SystemExit('imported')\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(make_project(tmp_path.resolve() / "project", data=("tiny",)))
    write_loss(project.root, MINE + CANARY)
    policy(project, FILE)
    return project


def policy(project: Project, *files: str, more: str = "") -> None:
    path = project.conf / "policy" / "default.yaml"
    path.write_text(f"code: [{', '.join(files)}]\n{more}")


def compiled(project: Project, asked: str = ASKED) -> Plan:
    return compile_recipe(project, "tiny", [asked])


def test_no_plan_imports_it(project: Project) -> None:
    """It ends the process that does."""
    plan_compiled(project, compiled(project), None)
    assert not [name for name, module in sys.modules.items() if FILE in str(module)]


def test_its_bytes_and_its_packages_are_what_training_is_known_by(project: Project) -> None:
    plan = compiled(project)
    train = plan.stage("train")
    assert train.files == (FILE,)
    assert FILE in train.deps
    assert train.names == ("loss.file",)
    assert "mine.py" not in str(train.identity()), "names are no content"
    assert train.config["loss"]["options"] == {"factor": 2}
    before = plan.fingerprints()
    write_loss(project.root, MINE + "import safetensors.torch, json\n")
    changed = compiled(project)
    now = changed.fingerprints()
    assert changed.stage("train").packages.keys() - train.packages.keys() == {"safetensors"}
    moved = {stage.kind for stage in plan.stages() if before[stage.address] != now[stage.address]}
    assert not moved & {"base", "data"}
    assert "train" in moved
    (project.root / "losses" / "other.py").write_text("x = 1\n")
    assert compiled(project).fingerprints() == now, "what it does not import is no input"


def test_another_place_of_the_same_bytes_is_the_same_training(project: Project) -> None:
    before = compiled(project)
    (project.root / "code").mkdir()
    (project.root / FILE).rename(project.root / "code" / "theirs.py")
    moved = compiled(project, ASKED.replace(FILE, "code/theirs.py"))
    for_train = [plan.fingerprints()["tiny/train"] for plan in (before, moved)]
    assert for_train[0] == for_train[1]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("from . import other\n", Exit.REFUSED, "losses/mine.py:1: imports ., a file of the"),
        ("from .other import x\n", Exit.REFUSED, "imports .other, a file of the project"),
        ("from ..data import x\n", Exit.REFUSED, "imports ..data, a file of the project"),
        ("import beside\n", Exit.REFUSED, "losses/mine.py:1: imports beside, a file of the"),
        ("import losses.other\n", Exit.REFUSED, "imports losses, a file of the project"),
        ("def f():\n    import top\n", Exit.REFUSED, "losses/mine.py:2: imports top, a file"),
        ("import importlib\n", Exit.REFUSED, "importlib can import what no plan can read"),
        ("x = __import__('top')\n", Exit.REFUSED, "__import__ can import what no plan can"),
        ("exec('import top')\n", Exit.REFUSED, "losses/mine.py:1: exec can import what no"),
        ("import no_such_package\n", Exit.MISSING, "mine.py:1: no installed package has no_such"),
        ("def f(:\n", Exit.BAD_RECIPE, "losses/mine.py: line 1: no Python: invalid syntax"),
        ("x = '\\0'\0\n", Exit.BAD_RECIPE, "losses/mine.py: "),
        ("-" * 100_000 + "1\n", Exit.BAD_RECIPE, "mine.py: no Python that can be read"),
        ("[" * 5000, Exit.BAD_RECIPE, "losses/mine.py: line 1: no Python: "),
        ("# " + "x" * 300_000, Exit.REFUSED, "losses/mine.py: larger than 262144 bytes"),
        ("class FirstCount: pass\n", Exit.BAD_RECIPE, "losses/mine.py defines no FirstCounts"),
        ("if 1:\n    class FirstCounts: pass\n", Exit.BAD_RECIPE, "defines no FirstCounts"),
        (
            "class FirstCounts:\n    def __init__(self, factr=1): pass\n",
            Exit.BAD_RECIPE,
            "train.loss.options.factor: losses/mine.py:2 does not take it",
        ),
        (
            "def FirstCounts(factor, *, margin): pass\n",
            Exit.BAD_RECIPE,
            "train.loss.options: losses/mine.py:1 needs margin",
        ),
    ],
)
def test_what_it_may_not_hold_is_said_with_its_line_and_nothing_of_it_runs(
    project: Project, text: str, code: Exit, says: str
) -> None:
    for name in ("losses/other.py", "losses/beside.py", "top.py"):
        (project.root / name).write_text("x = 1\n")
    write_loss(project.root, text)
    with pytest.raises(SlmcompileError) as caught:
        compiled(project)
    assert caught.value.code == code
    assert says in caught.value.what
    assert caught.value.what.startswith("override 'train.loss={type: python")
    assert "': train.loss." in caught.value.what
    assert caught.value.mend


@pytest.mark.parametrize(
    "text",
    [
        "def FirstCounts(**anything): pass\n",
        "class FirstCounts(dict): pass\n",
        "class FirstCounts:\n    def __init__(self, factor): pass\n",
        "FirstCounts = dict\n",
        "from __future__ import annotations\nimport math, torch.nn, numpy, yaml\n"
        "from slmcompile.training.losses.positions import Positions\nFirstCounts = dict\n",
    ],
)
def test_what_it_may_hold(project: Project, text: str) -> None:
    write_loss(project.root, text)
    assert compiled(project).stage("train").files == (FILE,)


def test_packages_go_by_the_names_that_they_are_installed_under(project: Project) -> None:
    write_loss(project.root, "import yaml\nimport numpy as np\nFirstCounts = dict\n")
    found = compiled(project).stage("train").packages
    assert {name.lower() for name in found} >= {"pyyaml", "numpy"}


def test_what_lies_in_the_project_is_no_package_though_python_would_find_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "found_here.py").write_text(CANARY)
    monkeypatch.syspath_prepend(str(project.root))
    write_loss(project.root, "import found_here\nFirstCounts = dict\n")
    with pytest.raises(SlmcompileError, match="imports found_here, a file of the project") as told:
        compiled(project)
    assert told.value.code == Exit.REFUSED


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../mine.py", Exit.REFUSED),
        ("/etc/hosts", Exit.REFUSED),
        (".git/mine.py", Exit.REFUSED),
        ("losses/link.py", Exit.REFUSED),
        ("losses", Exit.BAD_DATA),
        ("losses/mien.py", Exit.BAD_DATA),
    ],
)
def test_a_file_outside_behind_a_link_or_not_there_is_refused(
    project: Project, path: str, code: Exit
) -> None:
    (project.root / "losses" / "link.py").symlink_to(project.root / FILE)
    with pytest.raises(SlmcompileError) as caught:
        compiled(project, ASKED.replace(FILE, path))
    assert caught.value.code == code


def test_the_policy_of_the_base_branch_must_name_it(project: Project) -> None:
    policy(project)
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "no code")
    policy(project, FILE)

    def refused(policy_from: str | None) -> SlmcompileError | None:
        return refusal(plan_compiled(project, compiled(project), policy_from).findings)

    assert refused(None) is None
    error = refused("main")
    assert error is not None
    assert error.code == Exit.REFUSED
    assert "losses/mine.py: a run would execute this file" in error.what
    assert "code: [losses/mine.py]" in error.mend
    policy(project, "losses/other.py")
    assert refused(None) is not None
    policy(project, FILE, more="data_roots: [data]\n")
    assert refused(None) is None, "named file by file, it need not lie among the data"


def test_the_check_stage_holds_it_to_the_policy_too(project: Project) -> None:
    """A plain `dvc repro` plans nothing: there it is what stands before the execution."""
    from dataclasses import replace

    from slmcompile.facts.gather import context_of
    from tests.unit.checks.judging import judged

    plan = compiled(project)
    policy(project)
    context = context_of(project, plan, changes(project, plan))
    found = judged(replace(context, plan=None), 30)
    assert (found.outcome, found.code or Exit.REFUSED) == ("refuted", Exit.REFUSED)
    assert "a run would execute this file" in found.evidence


def test_the_plan_says_that_the_run_will_execute_it(project: Project) -> None:
    plan = compiled(project)
    planned = plan_compiled(project, plan, None)
    (line,) = (line for line in plan_text(planned).splitlines() if "execute" in line)
    assert line.startswith("The run will execute losses/mine.py, code of this project (override ")
    assert to_json(planned)["executes"] == [FILE]
    pretend_run(project, plan)
    again = plan_compiled(project, plan, None)
    assert "execute" not in plan_text(again)
    assert to_json(again)["executes"] == []
    plain = plan_compiled(project, compile_recipe(project, "tiny", ()), None)
    assert "execute" not in plan_text(plain)


def test_why_and_diff_name_the_file(project: Project) -> None:
    before = compiled(project)
    pretend_run(project, before)
    write_loss(project.root, MINE.replace("3.0", "4.0"))
    after = compiled(project)
    reasons = [each.sentence() for each in _change(project, after, "train")]
    assert reasons == ["losses/mine.py changed"]
    causes = explain(project, after, after.stage("answer", "torch")).causes
    assert [cause.reason.subject for cause in causes] == [FILE]
    difference = compare(side_of("old", before), side_of("new", after))
    told = {stage.name: [r.sentence() for r in stage.reasons] for stage in difference.stages}
    assert told["train"] == ["losses/mine.py changed"]


def _change(project: Project, plan: Plan, kind: str) -> tuple:  # type: ignore[type-arg]
    (found,) = (each for each in changes(project, plan) if each.stage.kind == kind)
    return found.reasons


def test_a_revision_has_the_file_that_it_had(project: Project) -> None:
    text = (project.recipes / "tiny.yaml").read_text()
    loss = "train:\n  loss: {type: python, file: losses/mine.py, name: FirstCounts}\n"
    (project.recipes / "mine.yaml").write_text(text + loss)
    command(project.root, "git", "init", "--quiet", "--initial-branch=main")
    commit(project.root, "a loss")
    assert not diff(project, ["mine@HEAD", "mine"]).any
    write_loss(project.root, MINE.replace("3.0", "4.0"))
    found = {stage.name: stage for stage in diff(project, ["mine@HEAD", "mine"]).stages}
    assert [r.sentence() for r in found["train"].reasons] == ["losses/mine.py changed"]


GROUP = """
defaults: [{model: tiny-llama}, {train: tiny}, {target: [cpu-fp32]}, {track: none},
  {adapter@adapters.one: pair}, {adapter@adapters.two: pair}, _self_]
adapters:
  one: {train: {loss: {type: python, file: losses/mine.py, name: FirstCounts}}}
  two: {data: {seed: 7}}
"""


def test_of_a_group_it_is_an_input_of_those_alone_whose_loss_it_is(project: Project) -> None:
    (project.conf / "adapter").mkdir(exist_ok=True)
    (project.conf / "adapter" / "pair.yaml").write_text(
        "defaults: [{/data: tiny-commands}, {/eval: structured}]\n"
    )
    (project.recipes / "pair.yaml").write_text(GROUP)

    def identities() -> dict[str, str]:
        plan = compile_recipe(project, "pair", ())
        behind.append(plan.fingerprints())
        stage = plan.stage("train", member="one")
        assert stage.files == (FILE,)
        assert stage.names == ("members.one.loss.file",)
        spec = stage.spec()
        return {name: member_fingerprint(spec, name, {}, plan.files) for name in ("one", "two")}

    behind: list[dict[str, str]] = []
    before = identities()
    planned = plan_compiled(project, compile_recipe(project, "pair", ()), None)
    assert refusal(planned.findings) is None
    assert "adapters.one.train.loss.file)" in plan_text(planned)
    write_loss(project.root, MINE.replace("3.0", "4.0"))
    after = identities()
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]
    moved = {name for name in behind[0] if behind[0][name] != behind[1][name]}
    assert {"pair/train", "pair/answer-torch--one", "pair/export-cpu-fp32--one"} <= moved
    assert not {name for name in moved if name.endswith("--two")}


def test_a_lock_holds_it(project: Project) -> None:
    found = [each for each in references(compiled(project)) if each.key == f"file:{FILE}"]
    assert [each.origin for each in found] == [("train", "loss", "file")]


def test_a_checkpoint_of_its_training_is_known_by_its_bytes(project: Project) -> None:
    plan = compiled(project)
    train = plan.stage("train")
    nothing: dict[str, dict[str, object]] = {role: {"files": {}} for role in train.inputs}
    for folder in train.inputs.values():
        write_json(project.root / folder / MANIFEST, {"files": {}})
    own = work_fingerprint(train.spec(), nothing, plan.files)
    step = scratch_folder(project, own) / "step-00000004"
    write_json(step / MANIFEST, {"info": {"identity": own}})

    def told(plan: Plan) -> str:
        context = CheckContext(
            project=project,
            name="tiny",
            recipe=recipe_of(plan.effective),
            device=Device(None, None, frozenset()),
            plan=plan,
            model=ModelFacts("base", {}, {}, {}, {}, {}, ()),
            data=DataFacts({}),
        )
        (rule,) = (each for each in all_checks() if each.name == "resumes-own-work")
        return rule.judge(context).evidence

    assert told(plan).startswith("goes on from step-00000004")
    write_loss(project.root, MINE)
    assert told(compiled(project)).startswith("no checkpoint of this work")
