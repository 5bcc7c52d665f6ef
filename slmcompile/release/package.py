"""What is in the archive of one export, and writing it: equal to the byte whoever packs it.

Nothing of it tells when, where or by whom it was made. Every file is held against the export's
manifest while it is copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slmcompile.console.errors import CorruptError, UsageError
from slmcompile.execution.exports import Found, find_export
from slmcompile.files import artifact
from slmcompile.files.artifact import MANIFEST, json_text, sha256_file
from slmcompile.files.safe_read import read_output_json, read_regular
from slmcompile.files.stored_zip import FileEntry, write_zip
from slmcompile.inference.exported import provider_of
from slmcompile.plans.artifacts import prompt_file
from slmcompile.provenance.committed import statement_path
from slmcompile.provenance.envelope import LARGEST, open_sealed
from slmcompile.providers import PROVIDERS
from slmcompile.recipe.project import Project
from slmcompile.registry.table import program
from slmcompile.release import foundry, notice
from slmcompile.release.measured import Measured, measured
from slmcompile.release.node_program import INSTALL, RUN_MJS, run_mjs, runs_in_node
from slmcompile.release.packed import Packed, Packing
from slmcompile.release.programs import RUN_PY, Asked, run_py, usage
from slmcompile.stages.scores import read_predictions

SUMS = "SHA256SUMS"
CARD = "README.md"
STATEMENT = "statement.json"
_CONFIG = "genai_config.json"


@dataclass(frozen=True)
class Package:
    """A written archive.

    Attributes:
        recipe, adapter, target: whose it is.
        path: the archive.
        sha256: of its bytes.
        size: their number.
        files: SHA-256 of every file in it, by its name in the folder that it unpacks to.
        notes: what a person should know of it.
    """

    recipe: str
    adapter: str
    target: str
    path: Path
    sha256: str
    size: int
    files: Mapping[str, str] = field(repr=False)
    notes: tuple[str, ...]


def package(
    project: Project, recipe: str, target: str | None, adapter: str | None, out: Path | None
) -> Package:
    """Packs one export of a recipe.

    Args:
        project: whose.
        recipe: its name.
        target: which; the recipe's first one by default.
        adapter: which, of a recipe with several.
        out: the archive, whose name ends in ``.zip``; by default ``RECIPE-TARGET.zip`` here.

    Raises:
        SlmcompileError: there is no such export, or it must not leave; see ``measured``.
    """
    found = find_export(project, recipe, adapter, target)
    name = "-".join(filter(None, (recipe, found.adapter, found.target)))
    path = out or Path(f"{name}.zip")
    _require_place(path, project)
    known = measured(project, found)
    statement, notes = _statement(project, found, known)
    entries = _entries(project, found, known, name, statement)
    hashes = {each: _sha256(entry) for each, entry in sorted(entries.items())}
    sums = "".join(f"{sha256}  {each}\n" for each, sha256 in hashes.items()).encode()
    files = {f"{name}/{each}": entry for each, entry in {**entries, SUMS: sums}.items()}
    write_zip(path, files)
    return Package(
        recipe,
        found.adapter,
        found.target,
        path,
        sha256_file(path),
        path.stat().st_size,
        hashes,
        tuple(notes),
    )


def _require_place(path: Path, project: Project) -> None:
    if path.suffix != ".zip" or path.is_dir():
        raise UsageError(f"--out {path}: a package is a zip", "name a file that ends in .zip")
    inside = (project.root / "outputs").resolve()
    if path.resolve().is_relative_to(inside):
        raise UsageError(f"--out {path}: lies among the outputs of stages", "name a file elsewhere")


def _entries(
    project: Project, found: Found, known: Measured, name: str, statement: bytes | None
) -> dict[str, bytes | FileEntry]:
    """By name. What the export has of the same name is not written over."""
    listed = {
        each: FileEntry(found.folder / each, entry["sha256"], entry["size"])
        for each, entry in known.manifest["files"].items()
    }
    provider = provider_of(known.manifest, found.folder)
    by_genai = "onnxruntime-genai" in PROVIDERS[provider].runs_on
    asked = _asked(found, known) if by_genai else None
    packer = PROVIDERS[provider].packer
    pack: Callable[[Packing], Packed] = program(packer) if packer else _programs
    packed = pack(Packing(project, found, known, asked, provider, name))
    ours = {
        CARD: notice.readme(known, found, packed.usage),
        "NOTICE": notice.notice(known.summary, packed.works),
    }
    written = {each: text.encode("utf-8") for each, text in ours.items()} | {**packed.files}
    if statement is not None:
        written[STATEMENT] = statement
    manifest = (found.folder / MANIFEST).read_bytes()
    if hashlib.sha256(manifest).hexdigest() != known.manifest_sha256:
        raise CorruptError(f"{found.stage.out}/{MANIFEST}: has changed meanwhile", "run it again")
    return {**written, **listed, MANIFEST: manifest}


def _programs(packing: Packing) -> Packed:
    """Programs that answer a text, where onnxruntime-genai opens the folder."""
    asked = packing.asked
    usage = notice.of_programs(packing.known, _commands(packing.provider, asked))
    ours: dict[str, str] = {}
    if asked:
        ours[RUN_PY] = run_py(asked)
        ours |= {RUN_MJS: run_mjs(asked)} if runs_in_node(packing.provider, asked) else {}
        if not asked.adapter:  # Foundry Local would not choose it
            ours[foundry.FILE] = json_text(foundry.inference_model(packing.name, asked.prompt))
    return Packed({each: text.encode("utf-8") for each, text in ours.items()}, usage)


def _commands(provider: str, asked: Asked | None) -> list[str]:
    """What answers a text from the folder."""
    if asked is None:
        return []
    node = [
        INSTALL,
        usage(asked, "node run.mjs"),
    ]
    return [usage(asked), *(node if runs_in_node(provider, asked) else [])]


def _asked(found: Found, known: Measured) -> Asked:
    rendered = prompt_file(found.chosen)
    artifact.verify_used(found.folder, [rendered, _CONFIG])
    prompt: Any = read_output_json(found.folder, rendered)
    config: Any = read_output_json(found.folder, _CONFIG)
    try:
        model = dict(config["model"], context_length=int(config["model"]["context_length"]))
        asked = Asked(dict(prompt, columns=list(prompt["columns"])), model, found.chosen)
        spelt = bool(asked.columns)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{found.stage.out}: cannot be read", "export it again") from error
    if spelt:
        return asked
    rows = read_predictions(known.scored).get(found.target, [])
    return replace(asked, example=next((row["prompt"] for row in rows), ""))


def _statement(project: Project, found: Found, known: Measured) -> tuple[bytes | None, list[str]]:
    """The recipe's statement, where it speaks of this export; and what to say if it does not."""
    shown = statement_path(found.committed.recipe)
    data = read_regular(project.root, shown, shown, LARGEST)
    if data is None:
        return None, []
    sealed = open_sealed(data, shown)
    stated = {each.stage: each.manifest for each in sealed.statement.stages}
    if stated.get(found.stage.address) == known.manifest_sha256:
        return data, []
    again = f"`slmcompile attest {found.committed.recipe}` writes it anew"
    return None, [f"{shown} is of another export and was left out; {again}"]


def _sha256(entry: bytes | FileEntry) -> str:
    return hashlib.sha256(entry).hexdigest() if isinstance(entry, bytes) else entry.sha256


def to_json(made: Package) -> dict[str, Any]:
    """For programs."""
    return {
        "format_version": "1.0",
        "recipe": made.recipe,
        **({"adapter": made.adapter} if made.adapter else {}),
        "target": made.target,
        "file": made.path.as_posix(),
        "sha256": made.sha256,
        "size_bytes": made.size,
        "files": dict(made.files),
        "notes": list(made.notes),
    }
