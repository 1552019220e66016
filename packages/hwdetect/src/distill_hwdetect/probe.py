"""The deep probe: ask the installed torch what it can run, and time small matrix products."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from distill_hwdetect.values import mapping
from distill_hwdetect.visibility import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 0.05
# Products of 256 x 256 matrices take 0.3 to 30 ms, the longest in an emulated type of an old processor.
_SIZE = 256
_TYPES = ("float32", "bfloat16", "float16")


def add_deep(observed: dict[str, object]) -> None:
    """Add what torch says to raw observations; without torch, or where it fails, a note says so.

    Args:
        observed: What the fast probe saw; ``torch``, ``gpus`` and ``notes`` are replaced.
    """
    notes = observed.get("notes")
    said = list(notes) if isinstance(notes, list) else []
    observed["notes"] = said
    found = dict(mapping(observed.get("torch")))
    if found.get("installed") is False:
        said.append("torch is not installed: the deep probe had nothing to ask.")
        return
    try:
        import torch
    except Exception as error:  # noqa: BLE001  # a broken installation is a finding, not a crash
        said.append(f"torch cannot be imported: {type(error).__name__}: {error}.")
        return
    found["version"] = str(torch.__version__)
    # Some versions list nothing where there is no driver: that says nothing of the build.
    found["arch_list"] = [str(arch) for arch in torch.cuda.get_arch_list()] or None
    found["cuda_available"] = torch.cuda.is_available()
    found["xpu"] = bool(getattr(torch.version, "xpu", None))
    found["mps"] = torch.backends.mps.is_built()
    if torch.backends.mps.is_available():
        found["recommended_max_memory"] = torch.mps.recommended_max_memory()
    devices = usable_devices()
    _add_devices(observed, devices)
    found["speeds"] = {device: _speeds(device, said) for device in devices}
    observed["torch"] = found


def usable_devices() -> list[str]:
    """Return the devices that torch can use, as it writes them."""
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.xpu.is_available():
        found += [f"xpu:{index}" for index in range(torch.xpu.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def measure_speed(device: str, dtype: str, *, seconds: float = PROBE_SECONDS) -> float:
    """Time a product of two 256 x 256 matrices.

    Args:
        device: As torch writes it.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        seconds: How long to repeat it, at least once.

    Returns:
        GFLOP/s.

    Raises:
        RuntimeError: torch has no such kernel for this device.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    left, right = (torch.randn(_SIZE, _SIZE, generator=generator).to(device, kind) for _ in range(2))
    wait = _waiting(device)
    _ = left @ right
    wait()
    repeats, started = 0, time.perf_counter()
    while repeats == 0 or time.perf_counter() - started < seconds:
        _ = left @ right
        wait()
        repeats += 1
    return repeats * 2 * _SIZE**3 / (time.perf_counter() - started) / 1e9


def _waiting(device: str) -> Callable[[], None]:
    """Return what waits until a device has finished."""
    import torch

    found: dict[str, Callable[[], None]] = {
        "cuda": torch.cuda.synchronize,
        "xpu": torch.xpu.synchronize,
        "mps": torch.mps.synchronize,
    }
    return found.get(device.partition(":")[0], lambda: None)


def _speeds(device: str, notes: list[str]) -> dict[str, float]:
    found = {}
    for name in _TYPES:
        try:
            found[name] = round(measure_speed(device, name), 2)
        except (RuntimeError, AssertionError) as error:
            notes.append(f"{device} cannot multiply {name} matrices: {str(error).splitlines()[0]}")
    return found


def _add_devices(observed: dict[str, object], devices: list[str]) -> None:
    """Complete the devices that the driver named by identifier; take torch's own where it named none."""
    gpus = observed.get("gpus")
    known = [dict(mapping(gpu)) for gpu in gpus] if isinstance(gpus, list) else []
    for prefix in ("cuda", "xpu"):
        asked = [_device(name) for name in devices if name.startswith(prefix)]
        vendors = {gpu["vendor"] for gpu in asked}
        there = [gpu for gpu in known if gpu.get("vendor") in vendors]
        if asked and not there:
            known += asked
            # torch names only what the process sees: the variables have had their effect.
            names = {name for kind in ("cuda", "rocm", "xpu") for name in VARIABLES[kind]}
            env = mapping(observed.get("env"))
            observed["env"] = {name: value for name, value in env.items() if name not in names}
        for gpu in there:
            same = [one for one in asked if one["uuid"] == gpu.get("uuid")] or (
                asked if len(there) == 1 else []
            )
            if same:
                gpu.update({key: value for key, value in same[0].items() if gpu.get(key) is None})
    observed["gpus"] = known


def _device(name: str) -> dict[str, object]:
    """Return what torch says of one device, in the words of the recordings."""
    import torch

    kind, _, number = name.partition(":")
    if kind == "xpu":
        said = torch.xpu.get_device_properties(int(number))
        return {
            "vendor": "intel",
            "name": said.name,
            "total_memory_bytes": said.total_memory,
            "uuid": None,
            "is_integrated": int(getattr(said, "is_integrated_gpu", False)),
        }
    seen = torch.cuda.get_device_properties(int(number))
    free, total = torch.cuda.mem_get_info(int(number))
    found: dict[str, object] = {
        "name": seen.name,
        "total_memory_bytes": total,
        "mem_get_info_free": free,
        "uuid": f"GPU-{seen.uuid}" if hasattr(seen, "uuid") else None,
        "is_integrated": int(getattr(seen, "is_integrated", 0)),
    }
    if torch.version.hip:
        return {"vendor": "amd", "gcnArchName": seen.gcnArchName, **found}
    return {"vendor": "nvidia", "major": seen.major, "minor": seen.minor, **found}
