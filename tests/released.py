"""Repositories with versions: a bare origin, clones of it, a DVC remote and results without runs.

A result is what a run leaves for others: folders with manifests, their objects in the DVC remote
and a statement in a commit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from slmcompile.files.artifact import MANIFEST, sha256_file, write_manifest
from slmcompile.provenance.envelope import seal
from slmcompile.provenance.folder import dvc_object
from slmcompile.provenance.statement import GateResult, StageResult, Statement
from slmcompile.recipe.project import Project
from tests.projects import command, commit

RECIPE = "tiny"
FOLDERS = ("train", "export-cpu-fp32")
_CONFIG = "[core]\n    analytics = false\n['remote \"main\"']\n    url = ../../store\n"


@dataclass(frozen=True)
class Released:
    """A place with ``origin.git``, the DVC remote ``store`` and clones.

    Attributes:
        place: the folder of all of them.
        objects: of every result that was made, by folder: what DVC calls it.
    """

    place: Path
    objects: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.place / "store"

    def clone(self, name: str) -> Project:
        """One more clone of the origin, whose git says who it is."""
        command(self.place, "git", "clone", "--quiet", "origin.git", name)
        root = self.place / name
        command(root, "git", "config", "user.name", name.capitalize())
        command(root, "git", "config", "user.email", f"{name}@example.org")
        return Project(root)

    def stored(self, md5: str) -> Path:
        """Where the DVC remote has an object."""
        return self.store / "files/md5" / md5[:2] / md5[2:]


def make_origin(place: Path) -> Released:
    """An origin with one recipe and no result."""
    place.mkdir(parents=True, exist_ok=True)
    command(place, "git", "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    released = Released(place)
    (place / "store").mkdir()
    project = released.clone("start")
    (project.root / "recipes").mkdir()
    (project.root / "recipes/tiny.yaml").write_text("task: text\n")
    (project.root / ".dvc").mkdir()
    (project.root / ".dvc/config").write_text(_CONFIG)
    (project.root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project.root / ".gitignore").write_text("/outputs/\n/.slmcompile/\n")
    commit(project.root, "start")
    command(project.root, "git", "push", "--quiet", "origin", "HEAD:main")
    return released


def add_result(
    released: Released,
    project: Project,
    why: str,
    *,
    recipe: str = RECIPE,
    passed: bool = True,
    stored: bool = True,
) -> str:
    """A result in a commit of its own, on the origin too; returns the commit.

    Args:
        released: where.
        project: the clone that commits.
        why: the commit's message; the weights are made of it.
        recipe: whose it says it is.
        passed: whether its gate did.
        stored: whether the DVC remote gets the objects.
    """
    statement = _statement(released, project, why, recipe, passed=passed)
    path = project.root / f"pipelines/{RECIPE}/statement.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seal(statement, None))
    commit(project.root, why)
    command(project.root, "git", "push", "--quiet", "origin", "HEAD:main")
    if stored:
        for folder in FOLDERS:
            _store(released, project.root / "outputs" / RECIPE / folder)
    return head(project)


def head(project: Project) -> str:
    """The commit that a clone is at."""
    return command(project.root, "git", "rev-parse", "HEAD").stdout.strip()


def digest(project: Project) -> str:
    """SHA-256 of the statement that lies in a clone."""
    data = (project.root / f"pipelines/{RECIPE}/statement.json").read_bytes()
    return hashlib.sha256(data).hexdigest()


def tag(project: Project, name: str, message: str, *words: str) -> None:
    """A tag as a person makes it, by git itself, on the origin too."""
    command(project.root, "git", "tag", "-a", name, "-m", message, *words)
    command(project.root, "git", "push", "--quiet", "origin", f"refs/tags/{name}")


def _statement(
    released: Released, project: Project, why: str, recipe: str, *, passed: bool
) -> Statement:
    stages = []
    subjects = {}
    for name in FOLDERS:
        folder = project.root / "outputs" / RECIPE / name
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "weights.bin").write_text(f"{name} of {why}\n" * 50)
        (folder / "deep/config.json").write_text(f'{{"of": "{name}"}}\n')
        kind = name.partition("-")[0]
        write_manifest(folder, kind, {}, "ab" * 32)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
        made = dvc_object(folder, name, files)
        released.objects[f"{why}: {name}"] = made
        manifest = files.pop(MANIFEST)
        size = sum(path.stat().st_size for path in paths)
        stages.append(StageResult(f"{recipe}/{name}", kind, "cd" * 32, manifest, made, size))
        subjects |= {f"{name}/{path}": sha for path, sha in files.items()}
    return Statement(
        recipe=recipe,
        effective="ef" * 32,
        digest=None,
        head=None,
        base=None,
        pull_request=None,
        approver="",
        tool="0.1.0",
        packages={},
        materials={},
        stages=tuple(stages),
        subjects=subjects,
        gates=(GateResult("accuracy of cpu-fp32 ≥ 0.5", passed),),
        metrics={"cpu-fp32": {"accuracy": 0.875}, "torch": {"accuracy": 0.9}},
    )


def _store(released: Released, folder: Path) -> None:
    """Puts a folder into the DVC remote by DVC's own layers."""
    from dvc.fs import LocalFileSystem
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import get_odb
    from dvc_data.hashfile.transfer import transfer

    local = LocalFileSystem()
    place = str(released.store / "files/md5")
    odb = get_odb(local, place, hash_name="md5", tmp_dir=str(released.store))
    staging, _, built = build(odb, str(folder), local, "md5")
    transfer(staging, odb, {built.hash_info}, shallow=False, hardlink=False)
