"""Which packages are installed, by the names of their ``*.dist-info`` folders: nothing is imported."""
# ruff: noqa: PTH118, PTH123, PTH208  # importing pathlib costs milliseconds that detection does not have

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES_READ = (
    "accelerate",
    "bitsandbytes",
    "ctranslate2",
    "flash-attn",
    "intel-extension-for-pytorch",
    "kernels",
    "onnxruntime",
    "openvino",
    "peft",
    "torch",
    "transformers",
)


def installed_versions(path: Iterable[str] | None = None) -> dict[str, str]:
    """Return the versions of those packages that a rule or an explanation reads.

    Args:
        path: Folders to look in, ``sys.path`` by default; the first that holds a package wins.
    """
    found: dict[str, str] = {}
    for folder in sys.path if path is None else path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            if not entry.endswith(".dist-info"):
                continue
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            canonical = name.lower().replace("_", "-").replace(".", "-")
            if canonical in PACKAGES_READ:
                found.setdefault(canonical, version)
    return found


def torch_observed(path: Iterable[str] | None = None) -> dict[str, object] | None:
    """Return what ``torch/version.py`` says its build is for, without running it; None without torch."""
    folders = list(sys.path if path is None else path)
    version = installed_versions(folders).get("torch")
    if version is None:
        return None
    observed: dict[str, object] = {"version": version}
    for folder in folders:
        try:
            with open(os.path.join(folder or ".", "torch", "version.py"), encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            # A line is name, annotation and value: the CUDA version that it was built for, or None.
            head, equals, value = line.partition("=")
            name = head.partition(":")[0].strip()
            if equals and name in ("cuda", "hip", "xpu"):
                value = value.strip().strip("'\"")
                observed[name] = "" if value == "None" else value
        break
    observed["xpu"] = bool(observed.get("xpu"))
    return observed
