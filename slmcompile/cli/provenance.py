"""``attest`` and ``verify``: what a run is stated to be, and whether that is so; offline."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmcompile.console.errors import Exit, UsageError
from slmcompile.console.printable import printable
from slmcompile.console.terminal import print_json
from slmcompile.recipe.project import Project, find_project
from slmcompile.registry.scalars import ID_PATTERN

if TYPE_CHECKING:
    from slmcompile.provenance.envelope import Sealed


def attest(arguments: Namespace) -> int:
    """States what lies here of a recipe's last run, and signs it if there is a key."""
    from slmcompile.execution.sync import compile_recipe
    from slmcompile.files.artifact import write_bytes
    from slmcompile.files.safe_read import check_inside
    from slmcompile.provenance.committed import statement_path
    from slmcompile.provenance.envelope import seal
    from slmcompile.provenance.keys import KEY_VARIABLE, private_key
    from slmcompile.provenance.make import attest as make

    project = find_project()
    key, shown = _signing_key(arguments.key)
    if key is not None:
        private_key(key, shown)  # before all the files are read
    plan = compile_recipe(project, arguments.recipe)
    sealed = seal(make(project, plan), key, shown)
    to = Path(arguments.out) if arguments.out else project.root / statement_path(plan.recipe)
    if not arguments.out:
        check_inside(project.root, statement_path(plan.recipe), statement_path(plan.recipe))
    elif to.suffix != ".json" or to.is_dir():
        raise UsageError(f"--out {to}: a statement is JSON", "name a file that ends in .json")
    write_bytes(to, sealed)
    _note(f"wrote {project.shown(to)}")
    if plan.overrides:
        _note(f"it is of a run with {' '.join(plan.overrides)}, which the recipe alone is not")
    if key is None:
        _note("it is not signed, so anybody could have written it")
        _note(f"sign it with --key FILE, or with a key in ${KEY_VARIABLE}")
    return Exit.DONE


def verify(arguments: Namespace) -> int:
    """Says whether a statement is signed by whom one trusts, and what lies here as it is stated."""
    from slmcompile.execution.sync import compile_recipe
    from slmcompile.provenance.check import check_folder, check_outputs, check_recipe, stage_of
    from slmcompile.provenance.envelope import open_sealed

    project = _project()
    recipe = _recipe_of(project, arguments.statement)
    if recipe is None or project is None:
        data, shown = _read(Path(arguments.statement))
    else:
        data, shown = _of_recipe(project, recipe)
    trusted = _trusted(arguments, project)
    sealed = open_sealed(data, shown, [*trusted.values()])
    if recipe is not None:
        check_recipe(sealed, recipe)
    checked: Sequence[str] = ()
    if arguments.folder is not None:
        folder = Path(os.path.realpath(arguments.folder))
        stage = stage_of(sealed, folder, arguments.folder)
        check_folder(sealed, stage.stage, folder, arguments.folder)
        checked = (arguments.folder,)
    elif recipe is not None and project is not None:
        checked = check_outputs(sealed, project, compile_recipe(project, recipe))
    signer = _signer(sealed, trusted)
    if arguments.json:
        print_json(_to_json(sealed, shown, signer, checked))
    else:
        print("\n".join(printable(line) for line in _text(sealed, shown, signer, checked)))
    return Exit.DONE


def _project() -> Project | None:
    try:
        return find_project()
    except UsageError:
        return None


def _recipe_of(project: Project | None, text: str) -> str | None:
    """The recipe that a word names; None where it names a file."""
    if project is None or not re.fullmatch(ID_PATTERN, text):
        return None
    is_recipe = os.path.lexists(project.recipes / f"{text}.yaml")
    return text if is_recipe or not Path(text).exists() else None


def _of_recipe(project: Project, recipe: str) -> tuple[bytes, str]:
    from slmcompile.files.safe_read import read_regular
    from slmcompile.provenance.committed import statement_path
    from slmcompile.provenance.envelope import LARGEST

    project.recipe_file(recipe)
    shown = statement_path(recipe)
    data = read_regular(project.root, shown, shown, LARGEST)
    if data is None:
        raise UsageError(f"{shown}: no such file", f"write it with `slmcompile attest {recipe}`")
    return data, shown


def _read(path: Path) -> tuple[bytes, str]:
    from slmcompile.files.safe_read import read_regular
    from slmcompile.provenance.envelope import LARGEST

    shown = path.as_posix()
    data = read_regular(path.parent, path.name, shown, LARGEST)
    if data is None:
        raise UsageError(
            f"{shown}: no such file, and no recipe", "name a statement, or a recipe of a project"
        )
    return data, shown


def _signing_key(option: str | None) -> tuple[bytes | None, str]:
    """The private key and what to call it."""
    from slmcompile.provenance.keys import KEY_VARIABLE, key_of_environment

    if option is not None:
        return _key_file(option), f"--key {option}"
    return key_of_environment(), f"${KEY_VARIABLE}"


def _key_file(option: str) -> bytes:
    """Whatever the user names, which may be a pipe out of a password store."""
    from slmcompile.provenance.keys import LARGEST_KEY

    try:
        with Path(option).open("rb") as stream:
            data = stream.read(LARGEST_KEY + 1)
    except OSError as error:
        raise UsageError(f"--key {option}: {error.strerror}", "name a key in PEM") from error
    if len(data) > LARGEST_KEY:
        raise UsageError(f"--key {option}: larger than any key", "name a key in PEM")
    return data


def _trusted(arguments: Namespace, project: Project | None) -> dict[str, bytes]:
    """The keys that are named, or else those of the project, by what to call them."""
    from slmcompile.provenance.keys import public_key, trusted_keys

    if arguments.key:
        named = {option: _key_file(option) for option in arguments.key}
        for option, pem in named.items():
            public_key(pem, f"--key {option}", UsageError)
        return named
    found = trusted_keys(project, arguments.policy_from) if project else {}
    for path, pem in found.items():
        public_key(pem, path)
    return found


def _signer(sealed: Sealed, trusted: Mapping[str, bytes]) -> str | None:
    """What the key is called whose signature holds."""
    from slmcompile.provenance.keys import key_id, public_key

    if sealed.keyid is None:
        return None
    ids = {key_id(public_key(pem, name)): name for name, pem in trusted.items()}
    return ids[sealed.keyid]


def _text(sealed: Sealed, shown: str, signer: str | None, checked: Sequence[str]) -> list[str]:
    from slmcompile.provenance.keys import FOLDER

    stated = sealed.statement
    lines = [f"{stated.recipe}: {shown}, sha256 {sealed.sha256}"]
    if signer is not None:
        lines.append(f"  signed by {signer}")
    elif sealed.named:
        lines.append(f"  signed, it says, by {sealed.named[0][:16]}, of which no key is known here")
        lines.append(f"  name its public key by --key, or commit it as {FOLDER}/NAME.pem")
    else:
        lines.append("  not signed: anybody may have written this")
    if stated.pull_request is not None:
        by = f", approved by {stated.approver}" if stated.approver else ""
        lines.append(f"  of pull request {stated.pull_request}{by}")
    if stated.head is not None:
        lines.append(f"  of the commit {stated.head}")
    lines += [f"  {'✓' if each.passed else '✗'} gate: {each.text}" for each in stated.gates]
    lines += [f"  as stated: {folder}" for folder in checked]
    if not checked:
        lines.append("  no output was looked at: name one by --folder")
    return lines


def _to_json(
    sealed: Sealed, shown: str, signer: str | None, checked: Sequence[str]
) -> dict[str, Any]:
    from slmcompile.provenance.statement import to_json

    return {
        "format_version": "1.0",
        "file": shown,
        "sha256": sealed.sha256,
        "keyid": sealed.keyid,
        "signed_by": signer,
        "unproven": [] if sealed.keyid else list(sealed.named),
        "checked": list(checked),
        "statement": to_json(sealed.statement),
    }


def _note(text: str) -> None:
    print(printable(text), file=sys.stderr)
