"""What most tests of stages begin with: a tiny base model, an adapter of it, and one thread."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tiny_model import make_adapter, make_base


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Of a model this small threads wait for each other longer than they compute."""
    if "torch" in sys.modules:  # whose import takes seconds, and which tests of rows go without
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's folder."""
    return make_base(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of ``base``."""
    return make_adapter(base, tmp_path_factory.mktemp("adapter"))
