"""How requests of PyGithub travel: bounded, patient, and written once.

PyGithub 2.10 reads answers of any size, repeats a POST that a server has perhaps taken, waits as
long as ``Retry-After`` says and asks for ever where the answer is 202. So its connections are
replaced by ours, and its own repeating is not used. Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from github.Requester import (
    HTTPRequestsConnectionClass,
    HTTPSRequestsConnectionClass,
    Requester,
    RequestsResponse,
)

from slmcompile.ci.host import UnsureError
from slmcompile.console.errors import CorruptError, MissingError, RefusedError

LARGEST_ANSWER = 16 << 20
"""Bytes of an answer of the API; a page of 100 comments of the largest size has half of it."""

PATIENCE = 600.0
"""Seconds that a request is waited for in all; its limits are renewed each hour at the latest."""

_TRIES = 6
_SECONDS = 30
"""Until a server has to say something more."""

_FIRST_WAIT = 1.0
_SECONDARY_WAIT = 60.0
"""What the host asks for where it names no time."""

_CHUNK = 1 << 16
_LOCAL = frozenset({"localhost", "127.0.0.1"})
_LIMITED = frozenset({403, 429})
_READING = frozenset({"GET", "HEAD"})

sleep = time.sleep
now = time.time


def install() -> None:
    """Has PyGithub use these connections, in this process."""
    Requester.injectConnectionClasses(_Plain, _Secure)


def require_private(url: str, shown: str) -> None:
    """That nobody between here and there can read along.

    Raises:
        RefusedError: plain HTTP to another machine, or no address at all (exit 77).
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise RefusedError(f"{shown}: is not asked over HTTPS", "name an https:// address")


def download(url: str, largest: int, shown: str) -> bytes:
    """What lies at an address that the host has named, without any credential.

    Args:
        url: the address. It may be a credential itself, so no message has it.
        largest: bytes; the answer has at most one more.
        shown: what messages call it.
    """
    require_private(url, shown)
    with requests.Session() as session:
        session.auth = Requester.noopAuth  # else of ~/.netrc
        answer = _patiently(_Sent(session, "GET", url, largest + 1), shown)
    if answer.status != 200:
        raise MissingError(f"{shown}: its store answers with {answer.status}", "try again")
    return answer.data


class _Answer(RequestsResponse):
    """An answer that is read already, as far as it may be."""

    def __init__(self, response: requests.Response, data: bytes) -> None:
        super().__init__(response)
        self.data = data

    def read(self) -> str:
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True)
class _Sent:
    """A request that can be sent as often as need be.

    Attributes:
        session: what sends it.
        verb: GET, POST and the like.
        url: the whole address.
        most: bytes of the answer that are read.
        headers: the credential among them.
        data: what is written.
        verify: as requests has it.
    """

    session: requests.Session
    verb: str
    url: str
    most: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: Any = None
    verify: Any = True

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, as GraphQL's queries: this package has no others."""
        return self.verb in _READING or urlsplit(self.url).path.endswith("/graphql")

    def once(self) -> _Answer:
        """Sends it and reads the answer, of which what is too much is not read."""
        sending: Any = self.session.request  # has no types
        with sending(
            self.verb,
            self.url,
            headers=dict(self.headers),
            data=self.data,
            timeout=_SECONDS,
            verify=self.verify,
            allow_redirects=False,
            stream=True,
        ) as response:
            data = b""
            for chunk in response.iter_content(_CHUNK):
                data += chunk
                if len(data) >= self.most:
                    break
            return _Answer(response, data[: self.most])


def _patiently(sent: _Sent, shown: str) -> _Answer:
    """Sends until there is an answer that says something, as long as patience goes.

    Raises:
        UnsureError: it writes, and may have been taken (exit 69).
        MissingError: no such answer came (exit 69).
    """
    waited, wait = 0.0, 0.0
    for attempt in range(_TRIES):
        waited += wait
        if attempt:
            sleep(wait)
        backoff = _FIRST_WAIT * 2**attempt
        taken = False  # whether the server may have done what was asked
        try:
            answer = sent.once()
        except requests.exceptions.ConnectTimeout:
            problem, wait = "no connection", backoff
        except requests.exceptions.RequestException as error:
            # Its text may quote a header, or an address that is a credential.
            problem, wait, taken = type(error).__name__, backoff, True
        else:
            limited = _limited(answer)
            if limited is not None:
                problem, wait = "rate limit", max(limited, backoff)
            elif answer.status >= 500 or (answer.status == 202 and sent.reads):
                problem, wait, taken = f"answers with {answer.status}", backoff, True
            else:
                return answer
        if taken and sent.verb == "POST" and not sent.reads:
            raise UnsureError(
                f"{shown}: {problem}; what was to be written may be there", "look, and try again"
            )
        if waited + wait > PATIENCE:
            break
    hint = "wait until it is lifted" if problem == "rate limit" else "check the network"
    raise MissingError(f"{shown}: {problem}, tried {attempt + 1} times", hint)


def _limited(answer: _Answer) -> float | None:
    """Seconds to wait by a rate limit's own word; None of an answer that is of none."""
    if answer.status not in _LIMITED:
        return None
    headers = answer.headers
    after = headers.get("Retry-After", "").strip()
    if after.isdigit():
        return float(after[:9])
    if headers.get("X-RateLimit-Remaining", "").strip() == "0":
        reset = headers.get("X-RateLimit-Reset", "").strip()
        # Nobody says when in that second.
        return max(0.0, float(reset[:12]) - now() + 1) if reset.isdigit() else _SECONDARY_WAIT
    said = after or answer.status == 429 or "rate limit" in _message(answer)
    return _SECONDARY_WAIT if said else None


def _message(answer: _Answer) -> str:
    try:
        return str(json.loads(answer.data)["message"]).lower()
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _answered(connection: HTTPRequestsConnectionClass | HTTPSRequestsConnectionClass) -> _Answer:
    """The answer to what a connection of PyGithub is to ask."""
    address = f"{connection.protocol}://{connection.host}:{connection.port}{connection.url}"
    shown = f"{connection.verb} {urlsplit(connection.url).path}"
    sent = _Sent(
        connection.session,
        connection.verb,
        address,
        LARGEST_ANSWER + 1,
        headers=connection.headers,
        data=connection.input,
        verify=connection.verify,
    )
    answer = _patiently(sent, shown)
    if len(answer.data) > LARGEST_ANSWER:
        raise CorruptError(f"{shown}: more than {LARGEST_ANSWER} bytes", "ask the host's owner")
    elsewhere = 300 <= answer.status < 400
    if elsewhere and not connection.url.endswith("/zip"):
        raise MissingError(f"{shown}: has moved", "correct GITHUB_API_URL and GITHUB_REPOSITORY")
    return answer


class _Plain(HTTPRequestsConnectionClass):
    def getresponse(self) -> _Answer:
        return _answered(self)


class _Secure(HTTPSRequestsConnectionClass):
    def getresponse(self) -> _Answer:
        return _answered(self)
