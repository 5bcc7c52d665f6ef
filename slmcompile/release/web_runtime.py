"""What a page runs a model with: packages of npm, each of one version and of known bytes.

They are no part of this project and none of them is fetched here: npm lays them into the project's
folder, by a command that a message says, and their SHA-512 is held against the one that is written
down here, which is npm's own `integrity`.
"""

from __future__ import annotations

import base64
import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.recipe.project import Project

FOLDER = "npm"
"""Below ``.slmcompile``."""


@dataclass(frozen=True)
class Pinned:
    """A package of npm.

    Attributes:
        name, version: as npm knows it.
        integrity: SHA-512 of its archive, base64.
        license: as the package states it.
        files: files of it by what a page calls them.
    """

    name: str
    version: str
    integrity: str
    license: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """What ``npm pack`` calls it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


_WASM = {
    "ort.wasm.bundle.min.mjs": "dist/ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm": "dist/ort-wasm-simd-threaded.wasm",
}
_WEBGPU = {
    "ort.webgpu.bundle.min.mjs": "dist/ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm": "dist/ort-wasm-simd-threaded.asyncify.wasm",
}
ONNXRUNTIME = Pinned(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    "MIT",
    {**_WASM, **_WEBGPU},
)
TOKENIZERS = Pinned(
    "@huggingface/tokenizers",
    "0.2.0",
    "LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
    "Apache-2.0",
    {"tokenizers.min.mjs": "dist/tokenizers.min.mjs", "tokenizers.LICENSE": "LICENSE"},
)
JINJA = Pinned(
    "@huggingface/jinja",
    "0.5.10",
    "SgS1D1bglQ94ceD4ZCL6eayUDy9uV1xuyk61OjgSxU5GJh7upqZCKII0JoTYMc6wWsg3JUgaPRX0ElQzXPk3Cw==",
    "MIT",
    {"jinja.mjs": "dist/index.js", "jinja.LICENSE": "LICENSE"},
)
PINNED = (ONNXRUNTIME, TOKENIZERS, JINJA)


def runtime(project: Project, *, webgpu: bool) -> dict[str, bytes]:
    """The files that a page loads, and their licences, by name.

    Args:
        project: in whose folder npm has laid the packages.
        webgpu: whether the page may ask a graphics processor.

    Raises:
        MissingError: a package is not there, with the command that fetches all (exit 69).
        CorruptError: one has other bytes (exit 74).
    """
    folder = project.scratch / FOLDER
    missing = [each for each in PINNED if not (folder / each.archive).is_file()]
    if missing:
        raise MissingError(
            f"{missing[0].name} {missing[0].version} is not in .slmcompile/{FOLDER}, and a page"
            " needs it",
            fetching(missing),
        )
    found: dict[str, bytes] = {}
    for each in PINNED:
        wanted = {name: path for name, path in each.files.items() if webgpu or name not in _WEBGPU}
        found |= _read(folder / each.archive, each, wanted)
    return found | _licences_of_onnxruntime()


def fetching(packages: Sequence[Pinned] = PINNED) -> str:
    """The command that lays packages into a project's folder, by the user's own npm settings."""
    place = f".slmcompile/{FOLDER}"
    named = " ".join(f"{each.name}@{each.version}" for each in packages)
    return f"mkdir -p {place} && npm pack --pack-destination {place} {named}"


def works() -> list[str]:
    """A line for each, of what it is and its licence."""
    return [f"{each.name} {each.version}, license: {each.license}" for each in PINNED]


def _read(path: Path, of: Pinned, wanted: Mapping[str, str]) -> dict[str, bytes]:
    data = path.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != of.integrity:
        raise CorruptError(
            f"{path}: its SHA-512 is not that of {of.name} {of.version}",
            f"remove it, and run `{fetching([of])}`",
        )
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for name, member in wanted.items():
            stream = archive.extractfile(f"package/{member}")
            if stream is None:
                raise CorruptError(f"{path}: {member} is no file in it", "report it")
            found[name] = stream.read()
    return found


def _licences_of_onnxruntime() -> dict[str, bytes]:
    """Of its package for Python, which measured the answers: that for npm has no texts of them.

    Raises:
        MissingError: it is not installed (exit 69).
    """
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise MissingError(
            "onnxruntime is not installed, whose licenses a page goes with",
            "install slmcompile with its lock file",
        )
    place = Path(spec.origin).parent
    names = ("LICENSE", "ThirdPartyNotices.txt")
    return {f"onnxruntime.{name}": (place / name).read_bytes() for name in names}
