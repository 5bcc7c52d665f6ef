"""Annotated tags of a recipe, read and made by git's plumbing; what they mean is told elsewhere.

A tag's message ends with ``statement: sha256:…``, the SHA-256 of the bytes of
``pipelines/R/statement.json`` in the tagged commit. A tag that has no such line, several, or was
made as another tag and carried over to this name, has no statement here.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import CorruptError, MissingError
from slmcompile.files.git import ask, git
from slmcompile.versions.tags import TagName, parse

_LINE = re.compile(r"^statement: sha256:([0-9a-f]{64})$", re.MULTILINE)
_FORM = "%00".join(
    f"%({field})"
    for field in (
        "refname",
        "objecttype",
        "objectname",
        "*objecttype",
        "*objectname",
        "tag",
        "taggername",
        "taggeremail",
        "taggerdate:unix",
        "contents",
    )
)
_END = "%00%00end%00"
_NO_LETTER = re.compile(r"[<>\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Tagger:
    """Who makes a tag."""

    name: str
    email: str


@dataclass(frozen=True)
class Tag:
    """A tag as the repository has it.

    Attributes:
        name: what its name says.
        object: hash of the tag itself, or of what a lightweight one points to.
        commit: hash of the commit; empty where it is of none.
        who: its tagger; empty name for a lightweight one.
        when: seconds since 1970, as its tagger says.
        statement: SHA-256 that its message names; empty where it names none.
        wrong: why its own form makes it no version tag; empty where nothing does.
    """

    name: TagName
    object: str
    commit: str
    who: Tagger
    when: int
    statement: str
    wrong: str = ""


def read_tags(root: Path, recipe: str) -> tuple[Tag, ...]:
    """Version tags of a recipe that are in this repository, by date and counter, as GTO has it."""
    places = [f"refs/tags/{recipe}{form}" for form in ("@*", "#*", "#*/**")]
    listed = git(root, "for-each-ref", f"--format={_FORM}{_END}", *places)
    found = [_tag(entry) for entry in listed.split(b"\0\0end\0") if entry.strip()]
    tags = {tag.object + str(tag.name): tag for tag in found if tag and tag.name.recipe == recipe}
    return tuple(sorted(tags.values(), key=lambda tag: (tag.when, tag.name.counter or 0)))


def recipes_with_tags(root: Path) -> list[str]:
    """Recipes that have version tags in this repository, sorted."""
    listed = git(root, "for-each-ref", "--format=%(refname)", "refs/tags/")
    names = (parse(os.fsdecode(ref).removeprefix("refs/tags/")) for ref in listed.split(b"\n"))
    return sorted({name.recipe for name in names if name is not None})


def _tag(entry: bytes) -> Tag | None:
    fields = [os.fsdecode(field) for field in entry.lstrip(b"\n").split(b"\0")]
    if len(fields) != _FORM.count("%00") + 1:
        raise CorruptError("git for-each-ref: an answer of another form", "run `git fsck`")
    ref, kind, made, of_kind, of, called, who, email, when, message = fields
    short = ref.removeprefix("refs/tags/")
    name = parse(short)
    if name is None:
        return None
    if kind != "tag":
        wrong = "it is a lightweight tag: nobody says who made it, and with what statement"
        return Tag(name, made, "", Tagger("", ""), 0, "", wrong)
    lines = _LINE.findall(message)
    wrong = ""
    if of_kind != "commit":
        wrong = "it is not of a commit"
    elif called != short:
        wrong = f"it was made as {called} and carried over to this name"
    return Tag(
        name,
        made,
        of if of_kind == "commit" else "",
        Tagger(who, email.strip("<>")),
        int(when) if when.isdecimal() else 0,
        lines[0] if len(lines) == 1 else "",
        wrong,
    )


def make_tag(
    root: Path, name: TagName, commit: str, statement: str, *, who: Tagger, when: int, why: str
) -> str:
    """Writes a tag as an object that no name points to yet; returns its hash.

    Args:
        root: a folder of the repository.
        name: what it is going to be called.
        commit: full hash of what it is of.
        statement: SHA-256 of its statement.
        who: its tagger.
        when: seconds since 1970.
        why: the first line of its message.
    """
    person = f"{_plain(who.name)} <{_plain(who.email)}> {when} +0000"
    text = (
        f"object {commit}\ntype commit\ntag {name}\ntagger {person}\n\n"
        f"{_plain(why)}\n\nstatement: sha256:{statement}\n"
    )
    with tempfile.TemporaryFile() as given:
        given.write(text.encode())
        given.seek(0)
        return git(root, "mktag", given=given).decode("ascii").strip()


def keep_tag(root: Path, name: TagName, made: str) -> None:
    """Gives a tag its name in this repository, unless another has it.

    Raises:
        CorruptError: another has it (exit 74).
    """
    ref, none = f"refs/tags/{name}", "0" * len(made)
    kept = ask(root, "update-ref", "--no-deref", ref, made, none)
    # Somebody else may have taken over the very same.
    if kept.code != 0 and ask(root, "rev-parse", "--verify", ref).output.decode().strip() != made:
        raise CorruptError(f"{name}: cannot be kept here: {kept.problem}", "look at `git tag`")


def tagger(root: Path) -> Tagger:
    """Who makes tags here, by git's settings.

    Raises:
        MissingError: they name nobody (exit 69).
    """
    name, email = (_setting(root, f"user.{part}") for part in ("name", "email"))
    name, email = (
        os.environ.get(f"GIT_COMMITTER_{part}") or found
        for part, found in (("NAME", name), ("EMAIL", email))
    )
    if not name or not email:
        raise MissingError(
            "git does not know who makes this tag", "git config user.name …, and user.email"
        )
    return Tagger(name, email)


def _setting(root: Path, name: str) -> str:
    answer = ask(root, "config", "--get", name)
    return answer.text.strip() if answer.code == 0 else ""


def _plain(text: str) -> str:
    """One line that ends no header and no name."""
    return " ".join(_NO_LETTER.sub(" ", text).split())


def subjects(root: Path, commits: Sequence[str]) -> dict[str, str]:
    """First lines of the messages of commits that are here."""
    if not commits:
        return {}
    words = ("rev-list", "--no-walk=unsorted", "--format=%H%x00%s", "--no-commit-header")
    listed = git(root, *words, "--end-of-options", *dict.fromkeys(commits))
    lines = listed.decode("utf-8", "replace").split("\n")
    return dict(line.partition("\0")[::2] for line in lines if line)
