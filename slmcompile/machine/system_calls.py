"""Calls of the kernel that a program in a container is not given: a filter for seccomp(2).

Namespaces hide files, processes and networks. Keyrings they do not: a session's keys, where some
tools put credentials, are found by whoever has the user's number. The others here are those that
have let most programs out of containers, and that nothing that computes has a use for.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_BY_NAME = {
    # of keyrings: add_key, request_key, keyctl
    "x86_64": (0xC000003E, (248, 249, 250, 321, 298, 323, 425, 426, 427)),
    "aarch64": (0xC00000B7, (217, 218, 219, 280, 241, 282, 425, 426, 427)),
    # and bpf, perf_event_open, userfaultfd, io_uring_setup, io_uring_enter, io_uring_register
}
"""By machine: AUDIT_ARCH_… (linux/audit.h), and numbers (asm/unistd.h)."""
_OTHER_ABI = 0x40000000
"""From here on are the calls of x32, the same under other numbers."""
# linux/bpf_common.h and linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
_ALLOWED, _FAILS = 0x7FFF0000, 0x00050000
_NOT_PERMITTED, _NOT_THERE = 1, 38


def known() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _BY_NAME


@contextmanager
def filtered() -> Iterator[int]:
    """A descriptor to read this machine's filter from, as bubblewrap takes it."""
    descriptor = os.memfd_create("calls")
    try:
        os.write(descriptor, _filter(*_BY_NAME[platform.machine()]))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _filter(architecture: int, numbers: tuple[int, ...]) -> bytes:
    """A program of struct sock_filter: code, jumps if so and if not, operand."""
    count = len(numbers)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _FAILS | _NOT_THERE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, count + 1, 0, _OTHER_ABI),
        *((_EQUAL, count - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOWED),
        (_RETURN, 0, 0, _FAILS | _NOT_PERMITTED),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in program)
