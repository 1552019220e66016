"""Save models safely, export them verified, run them without torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_deploy.choosing import ExportPath, export_path
    from distill_deploy.errors import (
        DeployError,
        ExportError,
        ExportRefusedError,
        IntegrityError,
        MissingExtraError,
        NonFiniteWeightsError,
    )
    from distill_deploy.exporting import ExportedModel, export
    from distill_deploy.folders import seal, staged
    from distill_deploy.runtime import MaskFiller, TextGenerator, load_runtime
    from distill_deploy.saving import LoadedFolder, load, save
    from distill_deploy.verification import Verification, verify

    __version__: str

_HOMES = {
    "DeployError": "errors",
    "ExportError": "errors",
    "ExportPath": "choosing",
    "ExportRefusedError": "errors",
    "ExportedModel": "exporting",
    "IntegrityError": "errors",
    "LoadedFolder": "saving",
    "MaskFiller": "runtime",
    "MissingExtraError": "errors",
    "NonFiniteWeightsError": "errors",
    "TextGenerator": "runtime",
    "Verification": "verification",
    "export": "exporting",
    "export_path": "choosing",
    "load": "saving",
    "load_runtime": "runtime",
    "save": "saving",
    "seal": "folders",
    "staged": "folders",
    "verify": "verification",
}

__all__ = [
    "DeployError",
    "ExportError",
    "ExportPath",
    "ExportRefusedError",
    "ExportedModel",
    "IntegrityError",
    "LoadedFolder",
    "MaskFiller",
    "MissingExtraError",
    "NonFiniteWeightsError",
    "TextGenerator",
    "Verification",
    "export",
    "export_path",
    "load",
    "load_runtime",
    "save",
    "seal",
    "staged",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-deploy")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'distill_deploy' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"distill_deploy.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
