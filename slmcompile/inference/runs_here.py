"""Whether a provider's runtime is on this machine, so that what was built for it runs on it."""

from __future__ import annotations

from slmcompile.providers import PROVIDERS


def runs_here(provider: str) -> bool:
    """Asked of onnxruntime: onnxruntime-genai 0.18 also says yes of what it could load elsewhere.

    Args:
        provider: as in ``target.NAME.execution_provider``; of one that is not known, no.
    """
    if provider not in PROVIDERS:
        return False
    name = PROVIDERS[provider].runtime_name
    if not name:
        return True
    import onnxruntime as ort

    here = {*ort.get_available_providers(), *(each.ep_name for each in ort.get_ep_devices())}
    return name in here
