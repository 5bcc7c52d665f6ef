"""Bytes of a data file to text, and what to say where they are not text of that encoding."""

from __future__ import annotations

import codecs

from slmcompile.console.errors import BadDataError
from slmcompile.console.printable import shortened

_ONE_BYTE = ("iso8859", "cp125")
_SHOWN = 60


def decoded(raw: bytes, path: str, encoding: str, *, whole: bool = True) -> str:
    """The text; a byte order mark is skipped.

    Args:
        raw: the file's bytes, or the first of them.
        path: how errors call the file.
        encoding: the recipe's ``data.source.encoding``.
        whole: whether these are all bytes; a part's last character may be broken off.

    Raises:
        BadDataError: the bytes are not of that encoding; the line is named, and the encoding that
            they may be of (exit 65).
    """
    codec = codecs.lookup(encoding).name
    utf8 = codec == "utf-8"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig" if utf8 else codec)().decode(raw, whole)
    except (UnicodeError, ValueError) as error:
        # A decoder that has skipped the mark counts from behind it.
        left, start = getattr(error, "object", raw), getattr(error, "start", 0)
        raise _wrong(raw, path, encoding, len(raw) - len(left) + start) from error
    if "\0" in text and raw.count(0) > len(raw) // 4:
        raise _wrong(raw, path, encoding, raw.index(0))
    if codec.startswith(_ONE_BYTE) and not raw.isascii() and _is_utf8(raw, whole=whole):
        raise BadDataError(
            f"{path}: is UTF-8, and data.source.encoding says {encoding}",
            "leave data.source.encoding out",
        )
    return text.removeprefix("\ufeff")


def _wrong(raw: bytes, path: str, encoding: str, start: int) -> BadDataError:
    line = raw[:start].decode(encoding, "replace").count("\n") + 1
    shown = "UTF-8" if codecs.lookup(encoding).name == "utf-8" else encoding
    what = f"{path}:{line}: not {shown} (byte 0x{raw[start]:02x})"
    guess = _guess(raw)
    if guess is None:
        return BadDataError(what, "say what it is: data.source.encoding, or save it as UTF-8")
    begin = raw.rfind(b"\n", 0, start) + 1
    text = raw[begin:].split(b"\n", 1)[0].decode(guess, "replace").strip()
    reads = "" if guess.startswith("utf-16") else f", which reads {shortened(text, _SHOWN)!r}"
    return BadDataError(
        f"{what}; it may be {guess}{reads}",
        f"set data.source.encoding={guess}, or what wrote it, or save the file as UTF-8",
    )


def _guess(raw: bytes) -> str | None:
    """What people's files are in that are not UTF-8: Excel's text on Windows, or UTF-16."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if raw.count(0) > len(raw) // 4:
        return "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
    if _is_utf8(raw):
        return "utf-8"
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return "cp1252"


def _is_utf8(raw: bytes, *, whole: bool = True) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw, whole)
    except UnicodeDecodeError:
        return False
    return True
