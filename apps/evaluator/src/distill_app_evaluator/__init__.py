"""distill-eval: score one model or compare several."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_app_evaluator.errors import EvaluationError, UsageError
    from distill_app_evaluator.evaluation import Evaluation, evaluate
    from distill_app_evaluator.folders import System
    from distill_app_evaluator.request import EvaluationRequest, check_request

    __version__: str

__all__ = [
    "Evaluation",
    "EvaluationError",
    "EvaluationRequest",
    "System",
    "UsageError",
    "__version__",
    "check_request",
    "evaluate",
]

_HOME = {
    "Evaluation": "evaluation",
    "EvaluationError": "errors",
    "EvaluationRequest": "request",
    "System": "folders",
    "UsageError": "errors",
    "check_request": "request",
    "evaluate": "evaluation",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-app-evaluator")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
