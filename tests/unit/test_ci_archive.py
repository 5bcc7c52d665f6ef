"""What another job uploaded is read and not unpacked."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from slmcompile.ci.archive import DOCUMENT, LARGEST_ARCHIVE, document
from slmcompile.ci.comment import comment
from slmcompile.ci.proposal import LARGEST
from slmcompile.cli.main import main
from slmcompile.console.errors import CorruptError
from tests.unit.test_ci_comment import proposal, written

LINK = 0o120777 << 16


def packed(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", how) as archive:
        warnings.simplefilter("ignore")  # of a name that stands there twice
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def with_flag(flag: int) -> bytes:
    """An archive whose member says something else of itself, in both of its headers."""
    data = bytearray(packed((DOCUMENT, b"{}")))
    for at in (6, data.index(b"PK\x01\x02") + 8):
        struct.pack_into("<H", data, at, flag)
    return bytes(data)


GOOD = packed((DOCUMENT, written(proposal())))
BAD: dict[str, bytes] = {
    "empty": b"",
    "no archive": b"PK\x03\x04" + b"x" * 100,
    "too large": b"x" * (LARGEST_ARCHIVE + 1),
    "without a document": packed(("other.json", b"{}")),
    "with nothing": packed(),
    "with two": packed((DOCUMENT, b"{}"), (DOCUMENT, b"{}")),
    "in a folder": packed((f"a/{DOCUMENT}", b"{}")),
    "outside": packed((f"../{DOCUMENT}", b"{}")),
    "of many members": packed((DOCUMENT, b"{}"), *((f"{at}", b"") for at in range(20))),
    "of another compression": packed((DOCUMENT, b"{}"), how=zipfile.ZIP_LZMA),
    "encrypted": with_flag(1),
    "cut": GOOD[:-10],
    "damaged": GOOD[:60] + bytes(20) + GOOD[80:],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_archive_of_one_document_is_refused(name: str) -> None:
    with pytest.raises(CorruptError):
        document(BAD[name], "x.zip")


def test_a_bomb_is_decompressed_as_far_as_a_document_may_go() -> None:
    bomb = packed((DOCUMENT, b" " * (64 << 20)))
    assert len(bomb) < LARGEST_ARCHIVE
    assert len(document(bomb, "x.zip")) == LARGEST + 1


def test_nothing_of_an_archive_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = LINK
    stream = io.BytesIO(
        packed(("../evil", b"x"), ("/tmp/evil", b"x"), (DOCUMENT, written(proposal())))
    )
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    Path("x.zip").write_bytes(stream.getvalue())
    assert main(["ci", "comment", "x.zip"]) == 0
    assert capsys.readouterr().out == comment(proposal())
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "x.zip"]
    Path("x.zip").write_bytes(BAD["outside"])
    assert main(["ci", "comment", "x.zip"]) == 74
