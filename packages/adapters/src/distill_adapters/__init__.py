"""Load a language model under a policy, adapt it with LoRA or QLoRA, fine-tune it, merge it."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_adapters.arguments import training_arguments
    from distill_adapters.attaching import attach
    from distill_adapters.errors import (
        AdapterError,
        GradientError,
        LabelError,
        MergeError,
        ModelLoadError,
        NonFiniteError,
        ResumeError,
        TargetError,
        TrainingStoppedError,
    )
    from distill_adapters.finetuning import FineTuner, TrainOutcome
    from distill_adapters.forcing import ForcedLogProbs, forced_log_probs
    from distill_adapters.loading import LoadedModel, load_model, save_model, set_threads
    from distill_adapters.making import new_model
    from distill_adapters.merging import merge
    from distill_adapters.original import ModelLoader, QLoRAFineTuner
    from distill_adapters.predicting import Predictions, mask_log_probs, predict
    from distill_adapters.rate import StepRate
    from distill_adapters.reports import ModelReport, model_report
    from distill_adapters.settings import AdapterConfig, Generation, Task, TrainSettings
    from distill_adapters.targets import TargetReport, resolve_targets
    from distill_adapters.trainer import SafeTrainer

    __version__: str

_HOMES = {
    "AdapterConfig": "settings",
    "AdapterError": "errors",
    "FineTuner": "finetuning",
    "ForcedLogProbs": "forcing",
    "Generation": "settings",
    "GradientError": "errors",
    "LabelError": "errors",
    "LoadedModel": "loading",
    "MergeError": "errors",
    "ModelLoadError": "errors",
    "ModelLoader": "original",
    "ModelReport": "reports",
    "NonFiniteError": "errors",
    "Predictions": "predicting",
    "QLoRAFineTuner": "original",
    "ResumeError": "errors",
    "SafeTrainer": "trainer",
    "StepRate": "rate",
    "TargetError": "errors",
    "TargetReport": "targets",
    "Task": "settings",
    "TrainOutcome": "finetuning",
    "TrainSettings": "settings",
    "TrainingStoppedError": "errors",
    "attach": "attaching",
    "forced_log_probs": "forcing",
    "load_model": "loading",
    "mask_log_probs": "predicting",
    "merge": "merging",
    "model_report": "reports",
    "new_model": "making",
    "predict": "predicting",
    "resolve_targets": "targets",
    "save_model": "loading",
    "set_threads": "loading",
    "training_arguments": "arguments",
}

__all__ = [
    "AdapterConfig",
    "AdapterError",
    "FineTuner",
    "ForcedLogProbs",
    "Generation",
    "GradientError",
    "LabelError",
    "LoadedModel",
    "MergeError",
    "ModelLoadError",
    "ModelLoader",
    "ModelReport",
    "NonFiniteError",
    "Predictions",
    "QLoRAFineTuner",
    "ResumeError",
    "SafeTrainer",
    "StepRate",
    "TargetError",
    "TargetReport",
    "Task",
    "TrainOutcome",
    "TrainSettings",
    "TrainingStoppedError",
    "attach",
    "forced_log_probs",
    "load_model",
    "mask_log_probs",
    "merge",
    "model_report",
    "new_model",
    "predict",
    "resolve_targets",
    "save_model",
    "set_threads",
    "training_arguments",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-adapters")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'distill_adapters' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"distill_adapters.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
