"""A store's objects: what is read from a remote is left there as it is, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmcompile.ci.store import Store
from slmcompile.console.errors import MissingError
from slmcompile.recipe.project import Project
from slmcompile.state.state import Cache
from tests.released import RECIPE, Released, add_result, make_origin


@pytest.fixture
def released(tmp_path: Path) -> Released:
    released = make_origin(tmp_path.resolve() / "all")
    add_result(released, released.clone("ann"), "one")
    return released


@pytest.fixture
def bob(released: Released) -> Project:
    return released.clone("bob")


def in_store(released: Released, name: str) -> Path:
    entries = json.loads(released.stored(released.objects["one: train"]).read_text())
    return released.stored(next(each["md5"] for each in entries if each["relpath"] == name))


def test_objects_come_into_the_cache(released: Released, bob: Project) -> None:
    folder = released.objects["one: train"]
    file = in_store(released, "weights.bin")
    assert Store(bob, "main").pull([folder, file.parent.name + file.name]) == ()
    cache = Cache(bob)
    assert cache.has(folder)
    for name, md5 in (cache.folder(folder) or {}).items():
        here = Path(f"{released.place}/ann/outputs/{RECIPE}/train/{name}")
        assert cache.blob(md5).read_bytes() == here.read_bytes()


@pytest.mark.parametrize("mode", [0o644, 0o444])
@pytest.mark.parametrize("name", ["weights.bin", ""])
def test_what_is_damaged_in_a_remote_is_told_and_stays(
    released: Released, bob: Project, name: str, mode: int
) -> None:
    folder = released.objects["one: train"]
    damaged = in_store(released, name) if name else released.stored(folder)
    whole = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(b"[]")
    damaged.chmod(mode)
    for _ in range(2):
        assert Store(bob, "main").pull([folder, released.objects["one: export-cpu-fp32"]]) == (
            folder,
        )
        assert damaged.read_bytes() == b"[]"
        assert damaged.stat().st_mode & 0o777 == mode
    damaged.chmod(0o644)
    damaged.write_bytes(whole)
    assert Store(bob, "main").pull([folder]) == ()


@pytest.mark.parametrize("name", ["weights.bin", ""])
def test_what_a_remote_lacks_is_told(released: Released, bob: Project, name: str) -> None:
    folder = released.objects["one: train"]
    (in_store(released, name) if name else released.stored(folder)).unlink()
    assert Store(bob, "main").pull([folder]) == (folder,)


@pytest.mark.parametrize("name", ["weights.bin", ""])
def test_what_is_damaged_in_the_cache_is_fetched_anew(
    released: Released, bob: Project, name: str
) -> None:
    folder = released.objects["one: train"]
    stored = in_store(released, name) if name else released.stored(folder)
    Store(bob, "main").pull([folder])
    here = Cache(bob).blob(stored.parent.name + stored.name)
    here.chmod(0o644)
    here.write_bytes(b"{}")
    here.chmod(0o444)
    assert Store(bob, "main").pull([folder]) == ()
    assert here.read_bytes() == stored.read_bytes()


def test_what_is_pushed_can_be_pulled_elsewhere(released: Released, bob: Project) -> None:
    folder = released.objects["one: train"]
    Store(bob, "main").pull([folder])
    released.store.rename(released.place / "before")
    with pytest.raises(MissingError, match="objects were not taken"):
        Store(released.clone("carol"), "main").push([folder])
    Store(bob, "main").push([folder])
    assert Store(released.clone("dan"), "main").pull([folder]) == ()
