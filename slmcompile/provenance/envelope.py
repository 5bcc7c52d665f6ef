"""A statement and who signed it, in one file: the Dead Simple Signing Envelope, DSSE 1.0.

The specification is https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md); keys are
Ed25519, whose signatures are the same whenever they are made. What is read may be a stranger's:
the signature is looked at before a byte of the statement is, and the file must be to the byte what
this module writes, but for the number of its signatures. Knows nothing of what is stated.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from slmcompile.console.errors import CorruptError
from slmcompile.files.strict_json import decoder
from slmcompile.provenance.keys import key_id, private_key, public_key
from slmcompile.provenance.statement import LARGEST as LARGEST_STATEMENT
from slmcompile.provenance.statement import MADE_AGAIN, Statement, read, written
from slmcompile.recipe.limits import is_bounded
from slmcompile.registry.scalars import Sha256

PAYLOAD_TYPE = "application/vnd.in-toto+json"
LARGEST = LARGEST_STATEMENT * 4 // 3 + (16 << 10)
"""Bytes of an envelope."""

_MOST_SIGNATURES = 16
_DEEPEST = 4
_MOST_VALUES = 4 + 3 * _MOST_SIGNATURES

Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


@dataclass(frozen=True)
class Signature:
    """One signature, and whose it says it is; only a key that is known tells."""

    keyid: Sha256
    sig: Annotated[Base64, StringConstraints(min_length=88, max_length=88)]


@dataclass(frozen=True)
class _Envelope:
    payload: Base64
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815 (DSSE's name)
    signatures: Annotated[tuple[Signature, ...], Field(max_length=_MOST_SIGNATURES)]


@dataclass(frozen=True)
class Sealed:
    """A statement as a file holds it.

    Attributes:
        statement: what is stated.
        keyid: the trusted key whose signature holds; None where no key was given to hold it
            against, so that anybody may have written this.
        named: whose signatures the file says it has.
        sha256: of the file's bytes.
    """

    statement: Statement
    keyid: str | None
    named: tuple[str, ...]
    sha256: str


def pae(payload: bytes) -> bytes:
    """The bytes that are signed, DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(statement: Statement, key: bytes | None, shown: str = "the signing key") -> bytes:
    """The file of a statement; equal statements and keys give equal bytes.

    Args:
        statement: what is stated.
        key: private key in PEM; None leaves it unsigned.
        shown: what messages call the key.

    Raises:
        UsageError: it is no key to sign with (exit 64).
    """
    payload = written(statement)
    if key is None:
        return _file(payload, ())
    signing = private_key(key, shown)
    signature = b64encode(signing.sign(pae(payload))).decode()
    return _file(payload, [Signature(key_id(signing.public_key()), signature)])


def open_sealed(data: bytes, shown: str, trusted: Sequence[bytes] = ()) -> Sealed:
    """A file that anybody may have written.

    Args:
        data: its bytes.
        shown: what messages call it.
        trusted: public keys in PEM, one of which must have signed it; with none given, whatever
            signatures there are prove nothing.

    Raises:
        CorruptError: damaged, not signed by a trusted key, or a key is none (exit 74).
        StaleError: a statement of a version that is not known here (exit 4).
    """
    envelope = _envelope(data, shown)
    payload = b64decode(envelope.payload)
    keyid = _verified(envelope.signatures, payload, shown, trusted) if trusted else None
    statement = read(payload, shown)
    named = tuple(each.keyid for each in envelope.signatures)
    return Sealed(statement, keyid, named, hashlib.sha256(data).hexdigest())


_FORM: TypeAdapter[_Envelope] = TypeAdapter(_Envelope)


def _envelope(data: bytes, shown: str) -> _Envelope:
    if len(data) > LARGEST:
        raise CorruptError(f"{shown}: larger than {LARGEST} bytes", MADE_AGAIN)
    try:
        content = decoder().decode(data.decode("utf-8"))
        bounded = content if is_bounded(content, _DEEPEST, _MOST_VALUES) else None
        envelope = _FORM.validate_json(json.dumps(bounded), strict=True)
        same = _file(b64decode(envelope.payload, validate=True), envelope.signatures) == data
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{shown}: not a signed statement", MADE_AGAIN) from error
    ids = [each.keyid for each in envelope.signatures]
    if not same or ids != sorted({*ids}):
        raise CorruptError(f"{shown}: not as slmcompile writes it", MADE_AGAIN)
    return envelope


def _verified(
    signatures: Iterable[Signature], payload: bytes, shown: str, trusted: Sequence[bytes]
) -> str:
    """The trusted key that has signed; one that is said to have and has not is damage."""
    from cryptography.exceptions import InvalidSignature

    known = {key_id(key): key for key in (public_key(pem, "a trusted key") for pem in trusted)}
    ours = [each for each in signatures if each.keyid in known]
    if not ours:
        raise CorruptError(
            f"{shown}: not signed by a key that is trusted here",
            "take the statement from where it is signed, or trust its key",
        )
    for each in ours:
        try:
            known[each.keyid].verify(b64decode(each.sig), pae(payload))
        except InvalidSignature:
            raise CorruptError(
                f"{shown}: the signature of {each.keyid[:16]} does not hold",
                "something was changed after it was signed; take the file from where it was signed",
            ) from None
    return ours[0].keyid


def _file(payload: bytes, signatures: Iterable[Signature]) -> bytes:
    content = {
        "payload": b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": each.keyid, "sig": each.sig} for each in signatures],
    }
    return f"{json.dumps(content)}\n".encode()
