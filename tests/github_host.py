"""Fixtures: a fake GitHub, our client of it, and no second that passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from slmcompile.ci import transport
from slmcompile.ci.github import GitHub
from slmcompile.console.errors import SlmcompileError
from tests.fake_github import TOKEN, FakeGitHub, serving

HEAD = "1" * 40
MARKER = "<!-- marker -->"


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited, of which none pass."""
    seconds: list[float] = []
    monkeypatch.setattr(transport, "sleep", seconds.append)
    monkeypatch.setattr(transport, "now", lambda: 1000.0)
    return seconds


@pytest.fixture
def host(fake: FakeGitHub) -> GitHub:
    return GitHub(fake.api, fake.name, TOKEN)


def code_of(question: Callable[[], object]) -> int:
    """What an error of ours ends with; it is one line, and says no token."""
    with pytest.raises(SlmcompileError) as caught:
        question()
    assert "\n" not in caught.value.what
    assert TOKEN not in str(caught.value)
    return caught.value.code
