"""Names of what is measured beside a recipe's targets, which no target may have."""

TUNED = "torch"
"""The model as it was trained."""
BASE = "base"
"""The base model, untrained."""
BASELINES = "baselines"
"""The stage of the two below."""
NEAREST = "nearest-neighbour"
LINEAR = "tf-idf"

MODELS = (TUNED, BASE)
"""Measured models that are no export."""

ASKED_BY = {BASE: "eval.base_model", BASELINES: "eval.baselines"}
"""Keys that say whether what no target makes is measured."""

ADAPTERS = "adapters"
"""Folder in a train stage's output in which each of several adapters has its own."""

RESERVED = frozenset({TUNED, BASE, BASELINES, NEAREST, LINEAR})


_FIRST = (NEAREST, LINEAR, BASE, TUNED)


def place(name: str) -> tuple[str, int, str]:
    """Sorts what is measured: what a model is held against, the base, what was trained, exports.

    Args:
        name: of an artifact; of one adapter of several ``adapter/artifact``.
    """
    adapter, _, artifact = name.rpartition("/")
    return adapter, _FIRST.index(artifact) if artifact in _FIRST else len(_FIRST), artifact


def prompt_file(adapter: str = "") -> str:
    """In an export's folder, how a prompt is rendered for one of its adapters, or for its only."""
    return f"prompt/{adapter}.json" if adapter else "prompt.json"


def adapter_file(adapter: str) -> str:
    """In an export's folder, one of its several adapters in the form of the runtime."""
    return f"adapters/{adapter}.onnx_adapter"
