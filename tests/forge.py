"""A forge in a folder: a bare origin, its clones, a store, a fake host, and jobs as it runs them.

Every job is a process of its own in a clone of its own that is thrown away, with what the host
puts into its environment and, where its environment has one, the store.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.fake_github import FORK, OWN, FakeGitHub, Said
from tests.projects import command, commit, environment, make_repository

ANN, BOB = "ann", "bob"
"""Who may write to the repository, and who may not."""


class Forge:
    """One repository and what surrounds it.

    Args:
        folder: an empty one.
        fake: the host.
    """

    def __init__(self, folder: Path, fake: FakeGitHub) -> None:
        self.folder, self.fake = folder, fake
        self.origin = folder / "origin.git"
        self.store = folder / "store"
        self.count = 0
        owner = make_repository(folder / "owner")
        for name in ("quickstart.yaml",):
            (owner / "recipes" / name).unlink()
        for name in ("main", "pr"):
            command(owner, "dvc", "remote", "add", "-q", name, str(self.store / name))
        command(owner, "dvc", "config", "core.remote", "main")
        commit(owner, "start")
        command(owner, "git", "branch", "-M", "main")
        command(folder, "git", "clone", "-q", "--bare", str(owner), str(self.origin))
        command(owner, "git", "remote", "add", "origin", str(self.origin))
        self.owner = owner

    # People.

    def contributor(self, name: str) -> Path:
        """A clone that somebody works in, at the target's tip."""
        clone = self.folder / name
        if not clone.exists():
            command(self.folder, "git", "clone", "-q", str(self.origin), str(clone))
        command(clone, "git", "fetch", "-q", "origin")
        command(clone, "git", "checkout", "-q", "-B", name, "origin/main")
        return clone

    def open(self, number: int, clone: Path, *, fork: bool = False) -> str:
        """Pushes what a clone is at and opens, or updates, its pull request; returns the head."""
        head = self.head(clone)
        branch = command(clone, "git", "rev-parse", "--abbrev-ref", "HEAD").stdout.strip()
        refs = [f"refs/pull/{number}/head"] + ([] if fork else [f"refs/heads/{branch}"])
        for ref in refs:
            command(clone, "git", "push", "-q", "--force", "origin", f"HEAD:{ref}")
        repository = FORK if fork else OWN
        if number in self.fake.pulls:
            self.fake.pulls[number].head = head
        else:
            self.fake.pull(number, head, branch=branch, repository=repository)
        return head

    @staticmethod
    def head(clone: Path) -> str:
        return command(clone, "git", "rev-parse", "HEAD").stdout.strip()

    def edit(self, clone: Path, message: str, **files: str) -> None:
        """Commits texts of recipes, by name."""
        for name, text in files.items():
            (clone / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")
        commit(clone, message)

    def put(self, number: int, commit: str) -> None:
        """Sets a pull request of a branch back to a commit."""
        pull = self.fake.pulls[number]
        for ref in (f"refs/heads/{pull.branch}", f"refs/pull/{number}/head"):
            command(self.origin, "git", "update-ref", ref, commit)
        pull.head = commit

    def merge(self, number: int, *words: str) -> str:
        """Merges as the host's button does; returns the commit."""
        pull = self.fake.pulls[number]
        command(self.owner, "git", "fetch", "-q", "origin", f"refs/pull/{number}/head")
        command(self.owner, "git", "fetch", "-q", "origin", "main")
        command(self.owner, "git", "reset", "-q", "--hard", "origin/main")
        ann = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
        merge = ("merge", "-q", "--no-ff", "-m", "merge", *words, pull.head)
        command(self.owner, "git", *ann, *merge)
        command(self.owner, "git", "push", "-q", "origin", "main")
        pull.state, pull.merged_as = "closed", self.head(self.owner)
        return self.head(self.owner)

    def take_over(self, number: int, clone: Path, *, fork: bool = False) -> None:
        """Fetches what the push job has left, and updates the pull request by it."""
        pull = self.fake.pulls[number]
        ref = f"refs/heads/{pull.branch}" if not fork else self.result_ref(number)
        command(clone, "git", "fetch", "-q", "origin", ref)
        command(clone, "git", "merge", "-q", "--ff-only", "FETCH_HEAD")
        self.open(number, clone, fork=fork)

    def result_ref(self, number: int) -> str:
        listed = command(self.origin, "git", "for-each-ref", f"refs/slmcompile/pr/{number}").stdout
        return listed.split()[-1]

    def branch(self, name: str) -> str:
        """What a branch of the origin is at."""
        return command(self.origin, "git", "rev-parse", f"refs/heads/{name}").stdout.strip()

    def tags(self) -> set[str]:
        return {*command(self.origin, "git", "tag").stdout.split()}

    # Jobs.

    def job(
        self, *words: str, event: tuple[str, dict[str, object]] | None = None, code: int = 0,
        at: str = "origin/main", fetching: str = "", **variables: str,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Runs a command as a job of the host, in a clone of its own."""
        clone, shell = self._runner(event, at, variables)
        if fetching:
            command(clone, "git", "fetch", "-q", "origin", fetching)
        done = subprocess.run(
            [sys.executable, "-m", "slmcompile", *words],
            cwd=clone, env=shell, text=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = f"{words} ended with {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        assert done.returncode == code, said
        assert "Traceback" not in done.stdout + done.stderr, said
        assert not any(line.startswith("::") for line in done.stdout.splitlines()), said
        shutil.rmtree(clone)
        return done

    def kill_when(
        self, so: Callable[[], bool], *words: str, event: tuple[str, dict[str, object]]
    ) -> None:
        """Starts a job and kills it, and all that it has started, as soon as something is so."""
        clone, shell = self._runner(event, "origin/main", {})
        running = subprocess.Popen(
            [sys.executable, "-m", "slmcompile", *words],
            cwd=clone, env=shell, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not so():
            assert running.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        running.kill()
        running.wait()
        shutil.rmtree(clone)

    def _runner(
        self, event: tuple[str, dict[str, object]] | None, at: str, variables: dict[str, str]
    ) -> tuple[Path, dict[str, str]]:
        """A clone of its own, and the environment of a job."""
        self.count += 1
        clone = self.folder / f"job-{self.count}"
        command(self.folder, "git", "clone", "-q", str(self.origin), str(clone))
        command(clone, "git", "checkout", "-q", "--detach", at)
        told = self.fake.environment(self.folder, *(event or ("push", {})))
        Path(told["GITHUB_OUTPUT"]).unlink(missing_ok=True)
        shell = environment() | told | variables | {"GIT_CONFIG_GLOBAL": os.devnull}
        return clone, shell

    def outputs(self) -> dict[str, str]:
        """What the last job has handed on."""
        path = self.folder / "output.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return dict(line.split("=", 1) for line in lines)

    def plan(self, number: int, code: int = 0) -> str:
        """The plan and its comment; returns the comment."""
        pull = self.fake.pulls[number]
        out = self.folder / "proposal.json"
        out.unlink(missing_ok=True)
        command(self.owner, "git", "fetch", "-q", "origin")
        clone = self.folder / "planner"
        if not clone.exists():
            command(self.folder, "git", "clone", "-q", str(self.origin), str(clone))
        command(clone, "git", "fetch", "-q", "origin", "main", f"refs/pull/{number}/head")
        command(clone, "git", "checkout", "-q", "--detach", "origin/main")
        words = ("ci", "plan", "--against", "origin/main", "--head", pull.head, "--out", str(out))
        done = command(clone, sys.executable, "-m", "slmcompile", *words, check=False)
        assert done.returncode == code, done.stderr
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(out, "proposal.json")
        run = 100 + self.count
        self.fake.upload(run, packed.getvalue())
        conclusion = "failure" if code else "success"
        event = self.fake.event_of_run(run, pull, conclusion=conclusion)
        self.job("ci", "comment", "--post", event=("workflow_run", event))
        (comment,) = [each for each in self.fake.thread(number) if "slmcompile plan" in each]
        return comment

    def queued(self, number: int, code: int = 0) -> None:
        """The plan of a merge queue, which has to find all trained."""
        head = self.fake.pulls[number].head
        words = ("ci", "plan", "--against", "origin/main", "--head", head)
        ref = f"refs/pull/{number}/head"
        self.job(*words, event=("merge_group", {}), code=code, fetching=ref)

    def approve(self, number: int, who: str = ANN, digest: str | None = None) -> Said:
        """Comments what the plan's comment says to."""
        if digest is None:
            (comment,) = [each for each in self.fake.thread(number) if "slmcompile plan" in each]
            (line,) = [each for each in comment.splitlines() if each.startswith("/train ")]
        else:
            line = f"/train {digest}"
        return self.fake.say(number, who, line)

    def comment_event(self, said: Said) -> tuple[str, dict[str, object]]:
        return ("issue_comment", self.fake.event_of_comment(said))

    def train(self, said: Said, code: int = 0, **variables: str) -> dict[str, str]:
        """The jobs of an approval, up to the training; returns what it handed on."""
        event = self.comment_event(said)
        self.job("ci", "authorise", event=event)
        assert self.outputs()["asked"] == "true"
        self.job("ci", "train", event=event, code=code, **variables)
        return self.outputs()

    def push(self, said: Said, told: dict[str, str], code: int = 0, **variables: str) -> str:
        """The job behind it; returns its comment."""
        words = ("ci", "push", "--record", told.get("record", ""))
        self.job(*words, event=self.comment_event(said), code=code, **variables)
        (comment,) = [each for each in self.fake.thread(said.pull) if "slmcompile result" in each]
        return comment


def with_gate(clone: Path, minimum: float, **train: object) -> str:
    text = (clone / "recipes/tiny.yaml").read_text(encoding="utf-8").split("gates:")[0]
    keys = "".join(f"  {key}: {value}\n" for key, value in train.items())
    text = text.split("\n# Learning")[0]
    text += f"\n# Learning.\n#\n#\ntrain:\n{keys or '  seed: 0'}\n\n# Bars.\n#\n#\n"
    return f"{text}gates:\n  - {{metric: exact_match, artifact: cpu-fp32, min: {minimum}}}\n"


def changed_text(clone: Path, old: str, new: str) -> str:
    text = (clone / "recipes/tiny.yaml").read_text(encoding="utf-8")
    assert old in text
    return text.replace(old, new)
