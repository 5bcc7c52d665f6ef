"""A small GitHub: real HTTP servers in threads, with the routes that ``slmcompile ci`` asks.

Its state is plain objects that a test sets up and reads. Every request is in the log, and
``faults`` has some of them end otherwise. Artifacts lie in a store of another host name, as
GitHub's do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

BOT = "github-actions[bot]"
TOKEN = "a-token-of-a-job"  # in the shape of no credential, so that no rule of ours hides it
Reply = tuple[int, Any, dict[str, str]]
"""Status, content and headers."""

OWN, FORK = 1000, 2000
"""Ids of the repository and of a fork of it."""


@dataclass
class Pull:
    """A pull request."""

    number: int
    head: str
    branch: str = "mine"
    repository: int | None = FORK
    target: str = "main"
    state: str = "open"
    merged_as: str | None = None


@dataclass
class Said:
    """A comment."""

    number: int
    pull: int
    author: str
    body: str
    created: int
    updated: int


@dataclass
class Issue:
    """An issue that is no pull request."""

    number: int
    author: str
    title: str
    body: str
    state: str = "open"


@dataclass
class Upload:
    """An artifact of a run."""

    number: int
    name: str
    data: bytes
    expired: bool = False


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    token: str
    host: str

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Fault:
    """How the next requests of a kind end.

    Attributes:
        line: pattern of ``METHOD /path``.
        status: of the answer; 0 drops the connection, None answers as ever.
        headers: of the answer.
        body: of the answer; bytes as they are, else JSON.
        times: how often.
        taken: whether what was asked is done all the same.
        happens: what happens meanwhile.
    """

    line: str
    status: int | None = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = field(default_factory=lambda: {"message": "Server Error"})
    times: int = 1
    taken: bool = False
    happens: Callable[[], object] = lambda: None


class FakeGitHub:
    """One repository, ``owner/here``."""

    name = "owner/here"

    def __init__(self) -> None:
        self.users = {BOT: 41, "ann": 700, "bob": 701}
        self.kinds = {BOT: "Bot"}
        self.permissions = {"ann": ("write", "maintain"), "bob": ("read", "triage")}
        self.tokens = {TOKEN: BOT}
        self.default_branch = "main"
        self.pulls: dict[int, Pull] = {}
        self.comments: dict[int, Said] = {}
        self.issues: dict[int, Issue] = {}
        self.runs: dict[int, list[Upload]] = {}
        self.page = 100
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.api = self.store = ""
        self._ids = count(1)
        self._clock = count(1)

    # What a test sets up.

    def pull(self, number: int, head: str, **more: Any) -> Pull:
        self.pulls[number] = Pull(number, head, **more)
        return self.pulls[number]

    def say(self, pull: int, author: str, body: str) -> Said:
        now = next(self._clock)
        said = Said(next(self._ids) + 9000, pull, author, body, now, now)
        self.comments[said.number] = said
        return said

    def edit(self, comment: int, body: str) -> None:
        """As somebody does who may."""
        self.comments[comment].body = body
        self.comments[comment].updated = next(self._clock)

    def issue(self, author: str, body: str, title: str = "title") -> Issue:
        issue = Issue(next(self._ids) + 500, author, title, body)
        self.issues[issue.number] = issue
        return issue

    def upload(self, run: int, data: bytes, name: str = "proposal", **more: Any) -> Upload:
        upload = Upload(next(self._ids) + 3000, name, data, **more)
        self.runs.setdefault(run, []).append(upload)
        return upload

    # What a test reads.

    def thread(self, pull: int) -> list[str]:
        return [each.body for each in self.comments.values() if each.pull == pull]

    def asked(self, *, writing: bool = False) -> list[str]:
        """Lines of the log; of those that write alone if asked to."""
        return [
            each.line
            for each in self.log
            if not writing or (each.method != "GET" and each.path != "/graphql")
        ]

    # What GitHub leaves in a job's environment.

    def environment(self, folder: Path, name: str, event: Mapping[str, Any]) -> dict[str, str]:
        path = folder / "event.json"
        path.write_text(json.dumps(event), encoding="utf-8")
        return {
            "GITHUB_API_URL": self.api,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": self.name,
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_EVENT_NAME": name,
            "GITHUB_EVENT_PATH": str(path),
            "GITHUB_OUTPUT": str(folder / "output.txt"),
            "GITHUB_RUN_ID": "1",
        }

    def event_of_comment(self, said: Said) -> dict[str, Any]:
        """``issue_comment``, of a comment as it is now."""
        pull = {"url": f"{self.api}/repos/{self.name}/pulls/{said.pull}"}
        issue = {"number": said.pull, "pull_request": pull}
        return {"action": "created", "issue": issue, "comment": self.comment_json(said)}

    def event_of_run(self, run: int, pull: Pull, **more: Any) -> dict[str, Any]:
        """``workflow_run``, of a run that has planned a pull request."""
        told = {
            "id": run,
            "name": "plan",
            "event": "pull_request",
            "conclusion": "success",
            "head_branch": pull.branch,
            "head_sha": pull.head,
            "head_repository": {"id": pull.repository},
            "pull_requests": [],
        }
        return {"action": "completed", "workflow_run": told | more}

    # How it answers.

    def user_json(self, login: str) -> dict[str, Any]:
        kind = self.kinds.get(login, "User")
        return {"login": login, "id": self.users[login], "type": kind}

    def comment_json(self, said: Said) -> dict[str, Any]:
        return {
            "id": said.number,
            "url": f"{self.api}/repos/{self.name}/issues/comments/{said.number}",
            "body": said.body,
            "user": self.user_json(said.author),
            "created_at": _time(said.created),
            "updated_at": _time(said.updated),
            "author_association": "MEMBER",
        }

    def pull_json(self, pull: Pull) -> dict[str, Any]:
        repository = {"id": pull.repository} if pull.repository else None
        return {
            "number": pull.number,
            "url": f"{self.api}/repos/{self.name}/pulls/{pull.number}",
            "state": pull.state,
            "title": "title",
            "head": {"sha": pull.head, "ref": pull.branch, "repo": repository},
            "base": {"sha": "0" * 40, "ref": pull.target, "repo": {"id": OWN}},
            "merged_at": _time(1) if pull.merged_as else None,
            "merge_commit_sha": pull.merged_as,
        }

    def issue_json(self, issue: Issue) -> dict[str, Any]:
        return {
            "number": issue.number,
            "url": f"{self.api}/repos/{self.name}/issues/{issue.number}",
            "title": issue.title,
            "body": issue.body,
            "state": issue.state,
            "user": self.user_json(issue.author),
        }

    def answer(self, request: Request) -> Reply:
        if request.host == "store":
            return self._stored(request)
        who = self.tokens.get(request.token)
        if who is None:
            return 401, {"message": "Bad credentials"}, {}
        for line, route in _ROUTES:
            if found := re.fullmatch(line, request.line.replace(f"/repos/{self.name}", "")):
                return route(self, request, who, *map(unquote, found.groups()))
        return _NOT_THERE

    def _stored(self, request: Request) -> Reply:
        number = int(request.path.rpartition("/")[2])
        every = [each for uploads in self.runs.values() for each in uploads]
        (data,) = [each.data for each in every if each.number == number]
        return 200, data, {}

    def _repository(self, *_: Any) -> Reply:
        whole = {"id": OWN, "full_name": self.name, "default_branch": self.default_branch}
        return 200, whole | {"url": f"{self.api}/repos/{self.name}"}, {}

    def _pull(self, _: Request, __: str, number: str) -> Reply:
        pull = self.pulls.get(int(number))
        return (200, self.pull_json(pull), {}) if pull else _NOT_THERE

    def _pulls(self, request: Request, _: str) -> Reply:
        base, state = request.query.get("base"), request.query.get("state", "open")
        every = [each for each in self.pulls.values() if each.state == state]
        found = [self.pull_json(each) for each in every if base in {None, each.target}]
        return self._paged(request, found[::-1])

    def _pulls_of(self, request: Request, _: str, commit: str) -> Reply:
        every = (each for each in self.pulls.values() if commit in {each.head, each.merged_as})
        return self._paged(request, [self.pull_json(each) for each in every])

    def _comment(self, _: Request, __: str, number: str) -> Reply:
        said = self.comments.get(int(number))
        return (200, self.comment_json(said), {}) if said else _NOT_THERE

    def _edit_comment(self, request: Request, _: str, number: str) -> Reply:
        self.edit(int(number), request.body["body"])
        return self._comment(request, "", number)

    def _comments(self, request: Request, _: str, pull: str) -> Reply:
        found = [each for each in self.comments.values() if each.pull == int(pull)]
        return self._paged(request, [self.comment_json(each) for each in found])

    def _new_comment(self, request: Request, who: str, pull: str) -> Reply:
        return 201, self.comment_json(self.say(int(pull), who, request.body["body"])), {}

    def _issues(self, request: Request, _: str) -> Reply:
        found = [each for each in self.issues.values() if each.state == request.query["state"]]
        return self._paged(request, [self.issue_json(each) for each in found])

    def _new_issue(self, request: Request, who: str) -> Reply:
        issue = self.issue(who, request.body["body"], request.body["title"])
        return 201, self.issue_json(issue), {}

    def _edit_issue(self, request: Request, _: str, number: str) -> Reply:
        issue = self.issues[int(number)]
        issue.body = request.body.get("body", issue.body)
        issue.state = request.body.get("state", issue.state)
        return 200, self.issue_json(issue), {}

    def _permission(self, _: Request, __: str, login: str) -> Reply:
        if login not in self.users:
            return _NOT_THERE
        permission, role = self.permissions.get(login, ("none", ""))
        told = {"permission": permission, "role_name": role, "user": self.user_json(login)}
        return 200, told, {}

    def _artifacts(self, request: Request, _: str, run: str) -> Reply:
        found = [
            {
                "id": each.number,
                "name": each.name,
                "size_in_bytes": len(each.data),
                "expired": each.expired,
                "url": f"{self.api}/repos/{self.name}/actions/artifacts/{each.number}",
            }
            for each in self.runs.get(int(run), [])
            if each.name == request.query.get("name", each.name)
        ]
        status, page, headers = self._paged(request, found)
        return status, {"total_count": len(found), "artifacts": page}, headers

    def _archive(self, _: Request, __: str, number: str) -> Reply:
        return 302, b"", {"Location": f"{self.store}/{number}?signature=secret"}

    def _viewer(self, _: Request, who: str) -> Reply:
        return 200, {"data": {"viewer": {"login": who}}}, {}

    def _user(self, _: Request, __: str, login: str) -> Reply:
        return (200, self.user_json(login), {}) if login in self.users else _NOT_THERE

    def _paged(self, request: Request, found: list[Any]) -> Reply:
        size = min(int(request.query.get("per_page", 30)), self.page)
        page = int(request.query.get("page", 1))
        headers = {}
        if page * size < len(found):
            query = urlencode({**request.query, "page": page + 1})
            headers["Link"] = f'<{self.api}{request.path}?{query}>; rel="next"'
        return 200, found[(page - 1) * size : page * size], headers


_NOT_THERE: Reply = (404, {"message": "Not Found"}, {})
_ROUTES = (
    (r"GET ", FakeGitHub._repository),
    (r"GET /pulls", FakeGitHub._pulls),
    (r"GET /pulls/(\d+)", FakeGitHub._pull),
    (r"GET /commits/([0-9a-f]+)/pulls", FakeGitHub._pulls_of),
    (r"GET /issues/comments/(\d+)", FakeGitHub._comment),
    (r"PATCH /issues/comments/(\d+)", FakeGitHub._edit_comment),
    (r"GET /issues/(\d+)/comments", FakeGitHub._comments),
    (r"POST /issues/(\d+)/comments", FakeGitHub._new_comment),
    (r"GET /issues", FakeGitHub._issues),
    (r"POST /issues", FakeGitHub._new_issue),
    (r"PATCH /issues/(\d+)", FakeGitHub._edit_issue),
    (r"GET /collaborators/([^/]+)/permission", FakeGitHub._permission),
    (r"GET /actions/runs/(\d+)/artifacts", FakeGitHub._artifacts),
    (r"GET /actions/artifacts/(\d+)/zip", FakeGitHub._archive),
    (r"POST /graphql", FakeGitHub._viewer),
    (r"GET /users/([^/]+)", FakeGitHub._user),
)


def _time(tick: int) -> str:
    return f"2026-01-01T{tick // 3600:02}:{tick // 60 % 60:02}:{tick % 60:02}Z"


class _Handler(BaseHTTPRequestHandler):
    fake: ClassVar[FakeGitHub]
    host: ClassVar[str]
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            method=self.command,
            path=parts.path,
            query={key: values[0] for key, values in parse_qs(parts.query).items()},
            body=json.loads(raw) if raw else None,
            token=(self.headers.get("Authorization") or "").rpartition(" ")[2],
            host=self.host,
        )
        self.fake.log.append(request)
        fault = next(
            (each for each in self.fake.faults if re.fullmatch(each.line, request.line)), None
        )
        if fault is None:
            self._answer(*self.fake.answer(request))
            return
        fault.times -= 1
        if not fault.times:
            self.fake.faults.remove(fault)
        fault.happens()
        usual = self.fake.answer(request) if fault.taken or fault.status is None else None
        if fault.status is None and usual:
            self._answer(*usual)
        elif not fault.status:
            self.close_connection = True
            self.connection.close()
        else:
            self._answer(fault.status, fault.body, dict(fault.headers))

    do_GET = do_POST = do_PATCH = _do  # noqa: N815 (names of http.server)

    def _answer(self, status: int, content: Any, headers: Mapping[str, str]) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the client has had enough

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[FakeGitHub]:
    """A fake that can be asked at ``api``."""
    fake = FakeGitHub()
    servers = []
    for host, shown in (("api", "127.0.0.1"), ("store", "localhost")):
        handler = type("Handler", (_Handler,), {"fake": fake, "host": host})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        setattr(fake, host, f"http://{shown}:{server.server_address[1]}")
        servers.append(server)
    try:
        yield fake
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
