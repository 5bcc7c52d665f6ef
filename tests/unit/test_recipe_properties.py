"""What must hold for every recipe and every override, also for ones that nobody would write.

Derandomised, so that a run on one day is the run of any other; `tests/fuzz` looks further.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import Exit, SlmcompileError
from slmcompile.console.printable import shows_itself
from slmcompile.execution.sync import compile_recipe
from slmcompile.explain.plan_all import survey
from slmcompile.recipe.compose import compose
from slmcompile.recipe.dump import dump_yaml
from slmcompile.recipe.names import paths_by_name
from slmcompile.recipe.overrides import parse_overrides
from slmcompile.recipe.project import Project
from slmcompile.recipe.yaml_file import parse_yaml
from slmcompile.state.emit import generated_files, runtime_path
from tests.projects import make_project

bounded = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ALLOWED = {Exit.BAD_RECIPE, Exit.REFUSED, Exit.BAD_DATA, Exit.MISSING}
KEYS = sorted({path for paths in paths_by_name().values() for path in paths})
NAMES = sorted(paths_by_name())
PIECES = [
    *"=+~@[]{}()'\"\\,:$%.!*&#|>?-/ \n\t\0\x1b",
    *("${", "}", "???", "null", "true", "1e-5", "-0.0", ".inf", "9" * 30, "é", "\u202e", "\ud800"),
    *("oc.env:", "_target_", "hydra", "defaults", "override ", "optional ", "../", "file://"),
    *("model", "train", "target", "tiny", "tiny-llama", "cpu-int8", "_self_", "data.seed", "int("),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(make_project(tmp_path_factory.mktemp("properties").resolve(), data=("tiny",)))


@contextmanager
def ending_in_an_error_of_ours() -> Iterator[None]:
    """Lets an error of ours pass that is one line and shows itself; any other fails the test."""
    ours: SlmcompileError | None = None
    try:
        yield
    except SlmcompileError as error:
        ours = error
    if ours is not None:
        assert ours.code in ALLOWED
        # Not `isprintable`: to Python 3.11 letters of a newer Unicode are none.
        assert shows_itself(ours.what)
        assert len(ours.what) < 1000


def survives(project: Project, name: str, overrides: list[str]) -> None:
    """Composing and building ends well or in an error of ours, in one line that shows itself."""
    with ending_in_an_error_of_ours():
        compile_recipe(project, name, overrides)


def written(project: Project, text: str | bytes, name: str = "fuzz") -> None:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    (project.recipes / f"{name}.yaml").write_bytes(data)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [f"${{{key}}}" for key in KEYS] + ["${.seed}", "${..x}", "a${data.name}", "???"]
    ),
    st.lists(st.sampled_from(PIECES), max_size=4).map("".join),
)
keys = st.one_of(st.sampled_from(NAMES), st.sampled_from(PIECES), st.text(max_size=5))
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=4),
    max_leaves=12,
)


@bounded
@given(data=st.binary(max_size=200))
def test_bytes_as_a_recipe_end_in_an_error_of_ours(project: Project, data: bytes) -> None:
    written(project, data)
    survives(project, "fuzz", [])


@bounded
@given(text=st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_scraps_of_yaml_end_in_an_error_of_ours(project: Project, text: str) -> None:
    written(project, "defaults: [tiny, _self_]\n" + text)
    survives(project, "fuzz", [])


@bounded
@given(value=st.dictionaries(st.sampled_from(NAMES), values, max_size=6))
def test_values_of_any_type_anywhere_end_in_an_error_of_ours(
    project: Project, value: dict[str, Any]
) -> None:
    written(project, "defaults: [tiny, _self_]\n" + json.dumps(value)[1:-1].replace("\n", " "))
    survives(project, "fuzz", [])
    written(project, yaml.safe_dump({"defaults": ["tiny", "_self_"], **value}, allow_unicode=True))
    survives(project, "fuzz", [])


@bounded
@given(entries=st.lists(st.one_of(st.sampled_from(PIECES), values), max_size=4))
def test_any_defaults_end_in_an_error_of_ours(project: Project, entries: list[Any]) -> None:
    written(project, yaml.safe_dump({"defaults": ["tiny", *entries]}, allow_unicode=True))
    survives(project, "fuzz", [])


@bounded
@given(
    key=st.sampled_from([*KEYS, "model", "target", "gates.0", "gates.0.min", ""]),
    prefix=st.sampled_from(["", "+", "++", "~"]),
    value=st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
)
def test_any_override_ends_in_an_error_of_ours(
    project: Project, key: str, prefix: str, value: str
) -> None:
    survives(project, "tiny", [f"{prefix}{key}={value}"])
    survives(project, "tiny", [f"{prefix}{value}"])


@bounded
@given(text=st.text(max_size=60))
def test_any_text_as_override_ends_in_an_error_of_ours(text: str) -> None:
    with ending_in_an_error_of_ours():
        parse_overrides([text])


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        order.shuffle(items)
        return {key: shuffled(below, order) for key, below in items}
    return [shuffled(below, order) for below in value] if isinstance(value, list) else value


def dumped(project: Project, name: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = compose(project, name, overrides).recipe.model_dump(mode="json")
    return found


edits = st.lists(
    st.sampled_from(
        [
            "train.seed=3",
            "train.learning_rate=2e-05",
            "train.learning_rate=0.1",
            "train.lora.r=4",
            "train.lora.target_modules=[q_proj,k_proj]",
            "train.num_threads=2",
            "data.max_length=64",
            "data.template.prompt='a: {text} #'",
            "data.label=null",
            "description='it is: “so”, 1.0'",
            "description='yes'",
            "description='1e3'",
            "eval.limit=5",
            "gates=[{metric: exact_match, min: 0.5}]",
            "gates=[]",
            "track.tags=[a,b]",
            "target={cpu-int8: {precision: int8}}",
        ]
    ),
    unique_by=lambda text: text.partition("=")[0],
    max_size=6,
).map(tuple)


@bounded
@given(overrides=edits, seed=st.integers(0, 2**16))
def test_a_dumped_recipe_is_the_recipe_in_any_order_of_keys(
    project: Project, overrides: tuple[str, ...], seed: int
) -> None:
    """Dump, load, dump is a fixpoint, and the order of keys in the file moves no byte.

    But that of the targets, of which the first is the one that answers: it is written down where no
    stage reads it.
    """
    first = dumped(project, "tiny", overrides)
    written(project, dump_yaml(first), "dumped")
    again = dumped(project, "dumped", ())
    assert again == first
    plan = without_order(generated_files(compile_recipe(project, "dumped", ())))
    written(project, dump_yaml(shuffled(first, random.Random(seed))), "dumped")
    assert without_order(generated_files(compile_recipe(project, "dumped", ()))) == plan


def without_order(files: dict[str, str]) -> dict[str, str]:
    path = runtime_path("dumped")
    runtime = json.loads(files[path])
    runtime["targets"] = sorted(runtime["targets"])
    return files | {path: json.dumps(runtime)}


def nested(path: str, value: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return {head: nested(rest, value) if rest else value}


@bounded
@given(overrides=edits)
def test_an_override_is_the_edit(project: Project, overrides: tuple[str, ...]) -> None:
    """Each in a file of its own over the last, so that the file says what the override says."""
    below = "tiny"
    for number, text in enumerate(overrides):
        path, _, value = text.partition("=")
        name = f"edit{number}"
        read = parse_yaml(f"value: {value}\n".encode(), Path(), "edit").content["value"]
        file = {"defaults": [below, "_self_"], **nested(path, read)}
        written(project, dump_yaml(file), name)
        below = name
    assert dumped(project, below, ()) == dumped(project, "tiny", overrides)


def plans_in(root: Path, order: list[Path]) -> Iterator[dict[str, str]]:
    source = Project(root)
    for path in order:
        target = root / path
        data = target.read_bytes()
        target.unlink()
        target.write_bytes(data)
    for name in source.names():
        yield generated_files(compile_recipe(source, name, ()))


def test_the_order_in_which_files_were_written_moves_no_byte(tmp_path: Path) -> None:
    found: list[list[dict[str, str]]] = []
    for name, backwards in (("one", False), ("two", True)):
        root = make_project(tmp_path.resolve() / name)
        files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        found.append(list(plans_in(root, sorted(files, reverse=backwards))))
    assert found[0] == found[1]


def test_a_recipe_is_planned_anew_when_any_file_of_it_changed_in_the_same_tick(
    tmp_path: Path,
) -> None:
    """Same size, same times, same inode: only the bytes tell."""
    import os

    project = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    path = project.conf / "train" / "tiny.yaml"

    def seed_planned() -> int:
        found: int = compile_recipe(project, "tiny", ()).effective["train"]["seed"]
        return found

    seeds: list[int] = []
    text = path.read_text(encoding="utf-8")
    for seed in (3, 4, 5, 4):
        before = path.stat()
        with path.open("r+", encoding="utf-8") as stream:
            stream.write(text + f"seed: {seed}\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        seeds.append(seed_planned())
    assert seeds == [3, 4, 5, 4]
    # A file that comes to stand before another of the same name is seen too.
    (project.recipes / "train").mkdir()
    (project.recipes / "train" / "tiny.yaml").write_text(text + "seed: 9\n", encoding="utf-8")
    assert seed_planned() == 9


def test_a_plan_is_made_anew_when_its_rows_or_a_package_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(make_project(tmp_path.resolve(), data=("tiny",)))
    rows = project.root / "data" / "tiny" / "commands.jsonl"
    first = compile_recipe(project, "tiny", ())
    assert compile_recipe(project, "tiny", ()) == first
    text = rows.read_text(encoding="utf-8")
    rows.write_text(text.replace("a", "b", 1), encoding="utf-8")
    second = compile_recipe(project, "tiny", ())
    assert second.plan_id != first.plan_id
    installed = tmp_path / "installed"
    installed.mkdir()
    monkeypatch.syspath_prepend(str(installed))
    assert compile_recipe(project, "tiny", ()).plan_id == second.plan_id
    (installed / "peft-9.9.dist-info").mkdir()
    (installed / "peft-9.9.dist-info" / "METADATA").write_text("Name: peft\nVersion: 9.9\n")
    assert compile_recipe(project, "tiny", ()).plan_id != second.plan_id
    monkeypatch.undo()
    rows.rename(rows.with_suffix(".real"))
    rows.symlink_to(rows.with_suffix(".real"))
    with pytest.raises(SlmcompileError) as caught:
        compile_recipe(project, "tiny", ())
    assert caught.value.code == Exit.REFUSED


def test_a_data_file_is_hashed_anew_when_it_changed_in_the_same_tick(tmp_path: Path) -> None:
    import os

    from slmcompile.files.file_hash import file_hash

    path = tmp_path / "rows.jsonl"
    found: list[str] = []
    for text in ("a", "b", "a"):
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(0, 0))
        found.append(file_hash(path, "sha256"))
    assert found[0] == found[2] != found[1]


def test_plan_all_names_what_is_wrong_and_plans_the_rest(tmp_path: Path) -> None:
    project = Project(make_project(tmp_path.resolve()))
    written(project, "defaults: [tiny, _self_]\ntrain: {sead: 1}\n", "typo")
    written(project, "defaults: [tiny, _self_]\nhydra: {}\n", "zz-evil")
    found = {each.recipe: each for each in survey(project)}
    assert list(found) == ["quickstart", "tiny", "typo", "zz-evil"]
    assert found["tiny"].error is None
    assert found["tiny"].actions["run"] > 5
    errors = [found[name].error for name in ("typo", "zz-evil")]
    assert [error and error.code for error in errors] == [Exit.BAD_RECIPE, Exit.REFUSED]
