"""Version tags of a remote beside those that are here: what is missing, moved or was taken away.

Tags are only ever added. One that is another there than here was moved, and nothing is built on
either; one that is here and not there was taken away, or never given. Nothing is ever written over
and nothing is pushed with force. The login is git's own, and in a job of the host that the
remote is on the job's token.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slmcompile.console.errors import CorruptError, LockedError, MissingError, RefusedError
from slmcompile.console.redact import redact, secrets_of
from slmcompile.files.git import Answer, ask
from slmcompile.files.git_login import job_login
from slmcompile.versions.tag_objects import keep_tag, read_tags
from slmcompile.versions.tags import TagName, parse

_MOST_FETCHED = 500
"""Tags that one call of git is given the names of."""


@dataclass(frozen=True)
class Remote:
    """A repository that shares the version tags of this one.

    Attributes:
        root: a folder of this repository.
        name: git's name of the other (``origin``).
    """

    root: Path
    name: str

    def tags(self, recipe: str = "") -> dict[str, str]:
        """Version tags of a recipe there, or of all: the hash of each by its name.

        Raises:
            MissingError: there is no such remote, or it does not answer (exit 69).
        """
        pattern = f"refs/tags/{recipe or '*'}[@#]*"
        listed = self._asked("ls-remote", "--refs", "--", self.name, pattern)
        found = {}
        for line in listed.decode("utf-8", "replace").splitlines():
            made, _, ref = line.partition("\t")
            name = ref.removeprefix("refs/tags/")
            known = parse(name) if name != ref else None
            if known is not None and recipe in {"", known.recipe}:
                found[name] = made
        return found

    def recipes(self) -> list[str]:
        """Recipes that have version tags there, sorted. Raises as ``tags``."""
        return sorted({name.recipe for name in map(parse, self.tags()) if name is not None})

    def catch_up(self, recipe: str) -> dict[str, str]:
        """Takes the tags of a recipe that are there and not here; returns all that are there.

        Raises:
            CorruptError: one is another there than here (exit 74).
            MissingError: as ``tags``.
        """
        there = self.tags(recipe)
        here = {str(tag.name): tag.object for tag in read_tags(self.root, recipe)}
        for name in sorted(there.keys() & here.keys()):
            if there[name] != here[name]:
                raise moved(name, self.name, here[name], there[name])
        missing = [name for name in there if name not in here]
        for start in range(0, len(missing), _MOST_FETCHED):
            self._take({name: there[name] for name in missing[start : start + _MOST_FETCHED]})
        return there

    def _take(self, tags: Mapping[str, str]) -> None:
        """Takes tags over, each if it still is what it was when it was listed."""
        refs = [f"refs/tags/{name}" for name in tags]
        # Objects alone: what the user's settings would have a fetch update or prune stays.
        alone = ("--no-tags", "--refmap=", "--no-write-fetch-head", "--no-prune", "--no-prune-tags")
        quiet = ("--quiet", "--no-recurse-submodules", "--no-auto-maintenance")
        self._asked("fetch", *alone, *quiet, "--", self.name, *refs)
        for name, made in tags.items():
            known = parse(name)
            if known is None or ask(self.root, "cat-file", "-e", made).code != 0:
                raise CorruptError(
                    f"{name}: was moved on {self.name} while it was read", "look who moves tags"
                )
            keep_tag(self.root, known, made)

    def add(self, name: TagName, made: str) -> None:
        """Puts a tag there, if nothing of that name is there; and then here.

        Raises:
            LockedError: somebody else was first (exit 5).
            RefusedError: the remote does not take it (exit 77).
            MissingError: it does not answer (exit 69).
        """
        ref = f"refs/tags/{name}"
        words = ("--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
        # An empty value expected: it must not be there yet, which the other side decides.
        lease = f"--force-with-lease={ref}:"
        pushed = self._ask("--push", "push", *words, lease, "--", self.name, f"{made}:{ref}")
        if pushed.code != 0:
            there = self.tags(name.recipe).get(str(name))
            if there is None:
                raise self._refused(name, pushed)
            if there != made:  # else it has arrived, and the answer was lost on the way
                self._take({str(name): there})
                raise LockedError(
                    f"{name}: somebody else was first: {self._maker(name)}",
                    "look at `slmcompile versions`, then run it again",
                )
        keep_tag(self.root, name, made)

    def _maker(self, name: TagName) -> str:
        tags = read_tags(self.root, name.recipe)
        first = next(tag for tag in tags if tag.name == name)
        who = f"{first.who.name} <{first.who.email}>" if first.who.name else "a lightweight tag"
        return f"{who}, of commit {first.commit[:10] or first.object[:10]}"

    def _refused(self, name: TagName, pushed: Answer) -> RefusedError | MissingError:
        told = [line.split("\t")[-1] for line in pushed.text.splitlines() if line.startswith("!")]
        if told:
            return RefusedError(
                f"{name}: {self.name} does not take it: {_told(told[0])}",
                "ask who may make tags there; owners set rules for them",
            )
        why = _told(pushed.problem) or "no reason given"
        return MissingError(
            f"{name}: {self.name} cannot be pushed to: {why}",
            "check the remote and its login",
        )

    def _asked(self, *words: str) -> bytes:
        answer = self._ask("--all", *words)
        if answer.code != 0:
            raise MissingError(
                f"{self.name}: {_told(answer.problem) or 'does not answer'}",
                "check the remote and its login",
            )
        return answer.output

    def _ask(self, address: str, *words: str) -> Answer:
        # It fails for a URL that is written out: who is asked has a name here.
        known = ask(self.root, "remote", "get-url", address, "--", self.name)
        if known.code != 0:
            raise MissingError(
                f"there is no git remote {self.name!r} here", f"git remote add {self.name} URL"
            )
        first = known.text.split("\n")[0]
        return ask(self.root, *words, remotely=True, environ=job_login(os.environ, first))


def _told(problem: str) -> str:
    """Git's own words, which may have an address with a password."""
    return str(redact(problem, secrets_of(os.environ)))


def moved(name: str, remote: str, here: str, there: str) -> CorruptError:
    """That a tag is not what it was."""
    return CorruptError(
        f"{name}: was moved: it is {here[:10]} here and {there[:10]} on {remote}",
        f"find out who moved it; `git fetch {remote} tag '{name}' --force` takes the other",
    )
