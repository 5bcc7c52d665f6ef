"""Has transformers read stored weights tensor by tensor, and not as a file that is mapped.

What is read through a map stays resident until the file is closed: of a base in bf16 half of the
fp32 weights once more, on top of all of them. transformers 5.23 chooses by the operating system
alone, so its own opener is put in the place of what it calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def read_by_piece() -> Iterator[None]:
    """Within the block, models that are opened have weights of their own, off the file."""
    from transformers import modeling_utils as opener

    given = vars(opener)["safe_open"]

    def by_piece(file: Any, *args: Any, **options: Any) -> Any:
        return given(file, *args, **{**options, "backend": "pread"})

    vars(opener)["safe_open"] = by_piece
    try:
        yield
    finally:
        vars(opener)["safe_open"] = given
