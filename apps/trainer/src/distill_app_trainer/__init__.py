"""distill-train: plan, train, distil, evaluate, export and report from one run file.

Importing this package imports nothing heavy: each name is loaded when it is first used (PEP 562).
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_app_trainer.checks import check_run
    from distill_app_trainer.config import RunConfig
    from distill_app_trainer.errors import RunFileError, TrainerError, WouldNotFitError
    from distill_app_trainer.planning import RunPlan, make_plan
    from distill_app_trainer.reading import read_run_file, to_toml
    from distill_app_trainer.runfiles import examples_folder, find_run_file
    from distill_app_trainer.runner import FinishedRun, execute

    __version__: str

_HOME = {
    "FinishedRun": "runner",
    "RunConfig": "config",
    "RunFileError": "errors",
    "RunPlan": "planning",
    "TrainerError": "errors",
    "WouldNotFitError": "errors",
    "check_run": "checks",
    "examples_folder": "runfiles",
    "execute": "runner",
    "find_run_file": "runfiles",
    "make_plan": "planning",
    "read_run_file": "reading",
    "to_toml": "reading",
}

__all__ = [
    "FinishedRun",
    "RunConfig",
    "RunFileError",
    "RunPlan",
    "TrainerError",
    "WouldNotFitError",
    "check_run",
    "examples_folder",
    "execute",
    "find_run_file",
    "make_plan",
    "read_run_file",
    "to_toml",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-app-trainer")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
