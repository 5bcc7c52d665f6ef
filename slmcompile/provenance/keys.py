"""Keys of statements: Ed25519, as PEM files that OpenSSL writes and reads.

Who signs and who is trusted is the project's to say: public keys lie beside the policy, so that no
pull request that trains can bring one. A private key is never shown, not even where it is wrong.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from slmcompile.console.errors import (
    CorruptError,
    MissingError,
    RefusedError,
    SlmcompileError,
    UsageError,
)
from slmcompile.files.revision import read_blob, resolve
from slmcompile.files.safe_read import check_inside, read_regular
from slmcompile.recipe.project import Project

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

FOLDER = "conf/policy/keys"
"""Where the public keys lie that a project trusts; beside the policy, and as well guarded."""

KEY_VARIABLE = "SLMCOMPILE_SIGNING_KEY"
"""Environment variable that holds the private key itself, as a secret of CI does."""

LARGEST_KEY = 16 << 10
"""Bytes of a key's file."""

_MOST_KEYS = 64
_NEW_KEY = "make one with `openssl genpkey -algorithm ed25519 -out key.pem`"
_ITS_PUBLIC = "write it with `openssl pkey -in key.pem -pubout -out public.pem`"


def private_key(pem: bytes, shown: str) -> Ed25519PrivateKey:
    """The key to sign with.

    Args:
        pem: PKCS #8, without a password.
        shown: what messages call it; nothing of its content is told.

    Raises:
        UsageError: it is none (exit 64).
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise UsageError(f"{shown}: the key has a password", "give one that has none") from None
    except Exception:  # noqa: BLE001 (of a library that says in many ways that it is no key)
        raise UsageError(f"{shown}: not a private key in PEM", _NEW_KEY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{shown}: not an Ed25519 key", _NEW_KEY)
    return key


def key_of_environment() -> bytes | None:
    """The private key that the environment holds; an empty one is a secret that is not set."""
    held = os.environ.get(KEY_VARIABLE, "")
    return os.fsencode(held) if held.strip() else None


def public_key(
    pem: bytes, shown: str, wrong: type[SlmcompileError] = CorruptError
) -> Ed25519PublicKey:
    """A key to verify with; ``wrong`` is raised where it is none."""
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except Exception:  # noqa: BLE001 (as above)
        raise wrong(f"{shown}: not a public key in PEM", _ITS_PUBLIC) from None
    if not isinstance(key, Ed25519PublicKey):
        raise wrong(f"{shown}: not an Ed25519 key", _NEW_KEY)
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of a key's DER form: ``openssl pkey -pubin -in KEY -outform DER | sha256sum``."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def trusted_keys(project: Project, ref: str | None = None) -> dict[str, bytes]:
    """The PEM files that a project trusts, by path; none where it has none.

    Args:
        project: whose.
        ref: a git revision to read them from, without a checkout; the working tree by default.

    Raises:
        RefusedError: one is a link, or there are too many (exit 77).
        CorruptError: one is larger than any key (exit 74).
    """
    return _at_revision(project, ref) if ref is not None else _in_tree(project)


def _in_tree(project: Project) -> dict[str, bytes]:
    if check_inside(project.root, FOLDER, FOLDER) is None:
        return {}
    paths = sorted(f"{FOLDER}/{path.name}" for path in (project.root / FOLDER).glob("*.pem"))
    _require_few(paths)
    found = {}
    for path in paths:
        found[path] = read_regular(project.root, path, path, LARGEST_KEY) or b""
        _require_small(path, len(found[path]))
    return found


def _at_revision(project: Project, ref: str) -> dict[str, bytes]:
    try:
        revision = resolve(project.root, ref)
    except UsageError as error:
        raise UsageError(f"--policy-from {ref}: no such commit here", error.mend) from error
    entries = {
        path: entry
        for path, entry in sorted(revision.entries(FOLDER).items())
        if path.endswith(".pem") and path.count("/") == FOLDER.count("/") + 1
    }
    _require_few(entries)
    for path, entry in entries.items():
        _require_small(path, entry.size)
    return {path: read_blob(project.root, entry.blob) for path, entry in entries.items()}


def _require_few(paths: Collection[str]) -> None:
    if len(paths) > _MOST_KEYS:
        raise RefusedError(f"{FOLDER}: more than {_MOST_KEYS} keys", "keep those that still sign")


def _require_small(path: str, size: int) -> None:
    if size > LARGEST_KEY:
        raise CorruptError(f"{path}: larger than any key", _ITS_PUBLIC)


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "signatures need the package cryptography", "pip install 'slmcompile[attest]'"
        ) from error
