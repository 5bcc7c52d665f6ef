"""llama.cpp's C interface (llama.h, ggml.h), of the library that the wheel xllamacpp carries.

The wheel's own Python speaks to a server alone, which gives no logits, but the library exports the
C functions. Its parameter structs change between versions: they are asked of the library itself,
and of a struct only the first fields are touched, whose defaults are compared with what llama.h
says. Knows nothing of files or prompts.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_uint32
from ctypes import c_void_p as pointer
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slmcompile.console.errors import MissingError

_INSTALL = "pip install 'slmcompile[gguf]'"


class Parameters(ctypes.Structure):
    """Room for any of the parameter structs; of a context's the first four fields are these."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("others", c_uint32 * 508),
    )


class Batch(ctypes.Structure):
    """``llama_batch``."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


_CONTEXT_DEFAULTS = (512, 2048, 512, 1)

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (pointer, pointer)),
    "llama_model_default_params": (Parameters, ()),
    "llama_context_default_params": (Parameters, ()),
    "llama_model_load_from_file": (pointer, (c_char_p, Parameters)),
    "llama_model_free": (None, (pointer,)),
    "llama_model_n_ctx_train": (c_int32, (pointer,)),
    "llama_model_get_vocab": (pointer, (pointer,)),
    "llama_init_from_model": (pointer, (pointer, Parameters)),
    "llama_free": (None, (pointer,)),
    "llama_set_n_threads": (None, (pointer, c_int32, c_int32)),
    "llama_get_memory": (pointer, (pointer,)),
    "llama_memory_clear": (None, (pointer, c_bool)),
    "llama_batch_init": (Batch, (c_int32, c_int32, c_int32)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (c_int32, (pointer, Batch)),
    "llama_get_logits": (POINTER(c_float), (pointer,)),
    "llama_vocab_n_tokens": (c_int32, (pointer,)),
    "llama_vocab_is_eog": (c_bool, (pointer, c_int32)),
    "llama_tokenize": (
        c_int32,
        (pointer, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool),
    ),
    "llama_token_to_piece": (c_int32, (pointer, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "ggml_quantize_chunk": (
        c_size_t,
        (c_int32, pointer, pointer, c_int64, c_int64, c_int64, pointer),
    ),
}

_LOG = ctypes.CFUNCTYPE(None, c_int32, c_char_p, pointer)


_SILENT = _LOG(lambda _level, _text, _data: None)
"""llama.cpp writes hundreds of lines of what it opens."""


@lru_cache(maxsize=1)
def library() -> Any:
    """The library, loaded once, silent, with types of the functions that are used.

    Raises:
        MissingError: it is not installed, does not load here, or is none that is known (exit 69).
    """
    found = find_spec("xllamacpp")
    if found is None or found.origin is None:
        raise MissingError("the package xllamacpp (llama.cpp) is not installed", _INSTALL)
    try:
        (path,) = sorted(Path(found.origin).parent.glob("xllamacpp*.so"))
        loaded = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise MissingError(f"llama.cpp of xllamacpp does not load: {reason}", _INSTALL) from error
    told = loaded.llama_context_default_params()
    if (told.n_ctx, told.n_batch, told.n_ubatch, told.n_seq_max) != _CONTEXT_DEFAULTS:
        raise MissingError("llama.cpp of xllamacpp is of a version that is not known", _INSTALL)
    loaded.llama_log_set(ctypes.cast(_SILENT, pointer), None)
    loaded.llama_backend_init()
    return loaded
