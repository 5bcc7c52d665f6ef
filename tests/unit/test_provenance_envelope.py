"""A statement is signed, and whatever is not as it was signed is found."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmcompile.console.errors import (
    CorruptError,
    RefusedError,
    SlmcompileError,
    StaleError,
    UsageError,
)
from slmcompile.files.git import MAX_ANSWER
from slmcompile.provenance import keys
from slmcompile.provenance.envelope import LARGEST, open_sealed, pae, seal
from slmcompile.provenance.keys import FOLDER, key_id, private_key, public_key, trusted_keys
from slmcompile.provenance.statement import written
from slmcompile.recipe.project import Project
from tests.projects import command, commit
from tests.statements import private_pem, public_pem, sha, statement

SIGNED = seal(statement(), private_pem())
UNSIGNED = seal(statement(), None)


def keyid(number: int = 1) -> str:
    return key_id(public_key(public_pem(number), "x"))


def of(edit: Callable[[dict[str, Any]], object], data: bytes = SIGNED) -> bytes:
    content = json.loads(data)
    edit(content)
    return f"{json.dumps(content)}\n".encode()


def signed_by(*numbers: int) -> bytes:
    """One statement with several signatures, in the order in which they have to be."""
    signatures = [json.loads(seal(statement(), private_pem(n)))["signatures"][0] for n in numbers]
    return of(lambda c: c.update(signatures=sorted(signatures, key=lambda each: each["keyid"])))


def test_what_was_sealed_is_opened_with_its_key() -> None:
    sealed = open_sealed(SIGNED, "x", [public_pem()])
    assert sealed.statement == statement()
    assert (sealed.keyid, sealed.named) == (keyid(), (keyid(),))
    assert sealed.sha256 == sha(SIGNED.decode())
    assert open_sealed(SIGNED, "x", [public_pem(2), public_pem()]).keyid == keyid()


def test_equal_statements_and_keys_give_equal_bytes() -> None:
    assert seal(statement(), private_pem()) == SIGNED
    assert seal(statement(), private_pem(2)) != SIGNED


def test_what_is_not_signed_is_opened_where_nobody_is_trusted_and_says_so() -> None:
    sealed = open_sealed(UNSIGNED, "x")
    assert (sealed.statement, sealed.keyid, sealed.named) == (statement(), None, ())
    assert open_sealed(SIGNED, "x").keyid is None, "nothing was held against it"
    with pytest.raises(CorruptError, match="not signed by a key that is trusted"):
        open_sealed(UNSIGNED, "x", [public_pem()])


def test_another_key_is_not_enough() -> None:
    with pytest.raises(CorruptError, match="not signed by a key that is trusted"):
        open_sealed(SIGNED, "x", [public_pem(2)])
    renamed = of(lambda c: c["signatures"][0].update(keyid=keyid(2)))
    with pytest.raises(CorruptError, match="does not hold"):
        open_sealed(renamed, "x", [public_pem(2)])


def test_of_two_signatures_one_that_is_trusted_is_enough_and_both_must_hold() -> None:
    both = signed_by(1, 2)
    for number in (1, 2):
        assert open_sealed(both, "x", [public_pem(number)]).keyid == keyid(number)
    assert open_sealed(both, "x").named == tuple(sorted((keyid(1), keyid(2))))
    with pytest.raises(CorruptError):
        open_sealed(both, "x", [public_pem(3)])

    def exchanged(content: dict[str, Any]) -> None:
        one, other = content["signatures"]
        one["sig"], other["sig"] = other["sig"], one["sig"]

    with pytest.raises(CorruptError, match="does not hold"):
        open_sealed(of(exchanged, both), "x", [public_pem(1)])
    for at in (0, 1):
        damaged = of(lambda c: c["signatures"][at].update(sig="A" * 86 + "=="), both)  # noqa: B023
        with pytest.raises(CorruptError, match="does not hold"):
            open_sealed(damaged, "x", [public_pem(1), public_pem(2)])


def test_an_edited_statement_is_not_what_was_signed() -> None:
    evil = statement(subjects={"train/adapter/adapter_model.safetensors": sha("evil")})
    payload = b64encode(written(evil)).decode()
    edited = of(lambda c: c.update(payload=payload))
    with pytest.raises(CorruptError, match="does not hold"):
        open_sealed(edited, "x", [public_pem()])
    assert open_sealed(edited, "x").statement == evil, "only a key tells"


def test_a_signature_over_another_payload_type_is_none() -> None:
    key = private_key(private_pem(), "x")
    data = written(statement())
    over_bytes = b64encode(key.sign(data)).decode()
    other = pae(data).replace(b"28 application/vnd.in-toto+json", b"16 application/json")
    for sig in (over_bytes, b64encode(key.sign(other)).decode()):
        with pytest.raises(CorruptError, match="does not hold"):
            open_sealed(of(lambda c: c["signatures"][0].update(sig=sig)), "x", [public_pem()])  # noqa: B023
    with pytest.raises(CorruptError):
        open_sealed(of(lambda c: c.update(payloadType="application/json")), "x", [public_pem()])


def test_no_byte_can_be_another() -> None:
    """Of a short one every byte behind the statement, and of that one in twenty."""
    data = seal(statement(materials={}, packages={}, metrics={}, gates=()), private_pem())
    until = data.index(b'", "payloadType"')
    positions = [*range(0, until, 20), *range(until, len(data))]
    drawn = random.Random(7)
    for at in positions:
        other = data[at] ^ drawn.randrange(1, 256)
        damaged = data[:at] + bytes([other]) + data[at + 1 :]
        with pytest.raises(CorruptError):
            open_sealed(damaged, "x", [public_pem()])
    for length in drawn.sample(range(len(data)), 50):
        with pytest.raises(CorruptError):
            open_sealed(data[:length], "x", [public_pem()])


BAD: dict[str, bytes] = {
    "nothing": b"",
    "the statement alone": written(statement()),
    "not JSON": b"x" * 100,
    "a list": b"[]",
    "without a newline": SIGNED[:-1],
    "in another order": json.dumps(json.loads(SIGNED), sort_keys=True, indent=1).encode(),
    "what is not known": of(lambda c: c.update(more=1)),
    "a key twice": SIGNED.replace(b"{", b'{"payload": "", ', 1),
    "no payload": of(lambda c: c.pop("payload")),
    "a payload that is no base64": of(lambda c: c.update(payload="!" + c["payload"][1:])),
    "spaces in base64": of(lambda c: c.update(payload=c["payload"][:4] + "\n" + c["payload"][4:])),
    "base64 for URLs": of(lambda c: c.update(payload=c["payload"].replace("/", "_") + "_")),
    "bits behind the end": of(lambda c: c.update(payload="e31=")),
    "an empty statement": of(lambda c: c.update(payload="")),
    "signatures that are no list": of(lambda c: c.update(signatures={})),
    "no keyid": of(lambda c: c["signatures"][0].pop("keyid")),
    "a keyid without end": of(lambda c: c["signatures"][0].update(keyid="0" * 5000)),
    "a short signature": of(lambda c: c["signatures"][0].update(sig="AAAA")),
    "a signature twice": of(lambda c: c.update(signatures=c["signatures"] * 2)),
    "signatures without end": of(lambda c: c.update(signatures=c["signatures"] * 1000)),
    "signatures out of order": of(
        lambda c: c.update(signatures=c["signatures"][::-1]), signed_by(1, 2)
    ),
    "depth": b"[" * 100_000,
    "too large": b" " * (LARGEST + 1),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("trusted", [[], [public_pem()]], ids=["any", "trusted"])
def test_another_form_is_none(name: str, trusted: list[bytes]) -> None:
    assert BAD[name] != SIGNED
    with pytest.raises(CorruptError):
        open_sealed(BAD[name], "x", trusted)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=60, deadline=None)
def test_whatever_is_signed_it_is_a_statement_or_refused(payload: bytes) -> None:
    """Whoever has the key may have signed anything."""
    sig = b64encode(private_key(private_pem(), "x").sign(pae(payload))).decode()

    def put(content: dict[str, Any]) -> None:
        content["payload"] = b64encode(payload).decode()
        content["signatures"][0]["sig"] = sig

    with pytest.raises((CorruptError, StaleError)):
        open_sealed(of(put), "x", [public_pem()])


def test_in_totos_own_library_finds_the_signature_good() -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    envelope = dsse.Envelope.from_dict(json.loads(SIGNED))
    assert (envelope.payload, envelope.pae()) == (written(statement()), pae(envelope.payload))
    for number, holds in ((1, True), (2, False)):
        key = signer.SSlibKey.from_crypto(public_key(public_pem(number), "x"), keyid())
        if holds:
            assert envelope.verify([key], 1) == {keyid(): key}
        else:
            with pytest.raises(Exception, match="do not match threshold"):
                envelope.verify([key], 1)


def test_openssl_makes_the_keys_and_finds_the_signature_good(tmp_path: Path) -> None:
    def openssl(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, check=False)

    assert openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem").returncode == 0
    assert openssl("pkey", "-in", "key.pem", "-pubout", "-out", "public.pem").returncode == 0
    data = seal(statement(), (tmp_path / "key.pem").read_bytes())
    sealed = open_sealed(data, "x", [(tmp_path / "public.pem").read_bytes()])
    der = openssl("pkey", "-pubin", "-in", "public.pem", "-outform", "DER").stdout
    assert sealed.keyid == hashlib.sha256(der).hexdigest()
    content = json.loads(data)
    (tmp_path / "pae").write_bytes(pae(b64decode(content["payload"])))
    (tmp_path / "sig").write_bytes(b64decode(content["signatures"][0]["sig"]))
    words = ("pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", "pae")
    assert openssl(*words, "-sigfile", "sig").returncode == 0


def rsa_pem() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def with_password() -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
    )

    key = private_key(private_pem(), "x")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


NO_KEYS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"my key",
    "a public one": public_pem,
    "cut": lambda: private_pem()[:60],
    "of RSA": rsa_pem,
    "with a password": with_password,
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_a_wrong_signing_key_is_told_without_a_letter_of_it(name: str) -> None:
    pem = NO_KEYS[name]()
    with pytest.raises(UsageError) as caught:
        seal(statement(), pem, "--key k.pem")
    assert caught.value.what.startswith("--key k.pem: ")
    assert not [line for line in pem.decode().splitlines()[1:-1] if line in str(caught.value)]
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("pem", [b"", b"x", private_pem(), public_pem()[:50]])
def test_a_wrong_trusted_key_is_told(pem: bytes) -> None:
    with pytest.raises(CorruptError):
        open_sealed(SIGNED, "x", [public_pem(), pem])
    with pytest.raises(UsageError):
        public_key(pem, "--key k.pem", UsageError)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SlmcompileError, match=r"slmcompile\[attest\]") as caught:
        seal(statement(), private_pem())
    assert caught.value.code == 69
    assert open_sealed(UNSIGNED, "x").statement == statement()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / "recipes").mkdir()
    (tmp_path / FOLDER / "ci.pem").write_bytes(public_pem())
    (tmp_path / FOLDER / "README.md").write_text("who has which")
    return Project(tmp_path)


def test_a_project_trusts_the_keys_beside_its_policy(project: Project) -> None:
    assert trusted_keys(project) == {f"{FOLDER}/ci.pem": public_pem()}
    assert trusted_keys(Project(project.root / "recipes")) == {}


def test_of_a_revision_its_keys_hold_and_not_those_of_the_working_tree(project: Project) -> None:
    command(project.root, "git", "init", "--quiet")
    commit(project.root, "one key")
    (project.root / FOLDER / "ci.pem").write_bytes(public_pem(2))
    (project.root / FOLDER / "evil.pem").write_bytes(public_pem(3))
    assert trusted_keys(project, "HEAD") == {f"{FOLDER}/ci.pem": public_pem()}
    with pytest.raises(UsageError, match="--policy-from evil"):
        trusted_keys(project, "evil")


def test_a_key_that_is_a_link_too_large_or_one_of_many_is_refused(project: Project) -> None:
    folder = project.root / FOLDER
    (folder / "link.pem").symlink_to(folder / "ci.pem")
    with pytest.raises(RefusedError):
        trusted_keys(project)
    (folder / "link.pem").unlink()
    (folder / "large.pem").write_bytes(b"x" * (keys.LARGEST_KEY + 1))
    with pytest.raises(CorruptError):
        trusted_keys(project)
    (folder / "large.pem").unlink()
    for number in range(70):
        (folder / f"{number}.pem").write_bytes(public_pem())
    with pytest.raises(RefusedError):
        trusted_keys(project)


def test_what_may_be_sealed_can_be_read_out_of_a_commit() -> None:
    assert LARGEST <= MAX_ANSWER
