"""Which packages are installed, by the names of their ``*.dist-info`` folders: nothing is imported."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGES_READ = (
    "accelerate",
    "bitsandbytes",
    "ctranslate2",
    "flash-attn",
    "intel-extension-for-pytorch",
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
            names = os.listdir(folder or ".")  # noqa: PTH208  # a Path per entry costs milliseconds
        except OSError:
            continue
        for entry in names:
            if not entry.endswith(".dist-info"):
                continue
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            canonical = re.sub(r"[-_.]+", "-", name).lower()
            if canonical in PACKAGES_READ:
                found.setdefault(canonical, version)
    return found


def torch_observed(path: Iterable[str] | None = None) -> dict[str, object] | None:
    """Return what ``torch/version.py`` says its build is for, without running it; None without torch."""
    version = installed_versions(path).get("torch")
    if version is None:
        return None
    observed: dict[str, object] = {"version": version}
    for folder in sys.path if path is None else path:
        file = Path(folder or ".") / "torch" / "version.py"
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            for name in ("cuda", "hip", "xpu"):
                match = re.search(rf"^{name}\b[^=\n]*=\s*(.+?)\s*$", text, re.MULTILINE)
                if match:
                    value = match.group(1).strip("'\"")
                    observed[name] = "" if value == "None" else value
            break
    observed["xpu"] = bool(observed.get("xpu"))
    return observed
