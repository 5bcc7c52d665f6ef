"""The README lists the checks that there are."""

from __future__ import annotations

from slmcompile.checks.listing import listing
from slmcompile.checks.registry import all_checks
from tests.projects import REPOSITORY


def test_all_checks_are_registered_and_the_readme_lists_them() -> None:
    assert [check.number for check in all_checks()] == list(range(1, 42))
    assert listing("markdown") in (REPOSITORY / "README.md").read_text(encoding="utf-8")
