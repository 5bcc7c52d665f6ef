"""Whether a provider's runtime is on this machine, so that what was built for it runs on it."""

from __future__ import annotations

from slmcompile.console.errors import MissingError
from slmcompile.plans.installed import versions
from slmcompile.providers import PROVIDERS


def runs_here(provider: str) -> bool:
    """By what is installed, and of a provider of onnxruntime's asked of that.

    onnxruntime-genai 0.18 also says yes of what it could load elsewhere.

    Args:
        provider: as in ``target.NAME.execution_provider``; of one that is not known, no.
    """
    if provider not in PROVIDERS:
        return False
    name = PROVIDERS[provider].runtime_name
    if not name:
        try:
            return bool(versions(*PROVIDERS[provider].runs_on))
        except MissingError:
            return False
    import onnxruntime as ort

    devices = ort.get_ep_devices()
    if PROVIDERS[provider].simulator:  # which is a device of the CPU to it
        npu = ort.OrtHardwareDeviceType.NPU
        return any(each.ep_name == name and each.device.type == npu for each in devices)
    return name in {*ort.get_available_providers(), *(each.ep_name for each in devices)}
