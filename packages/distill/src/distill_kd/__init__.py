"""Distil causal, seq2seq and masked language models with a loss that is provably right.

Names are imported on first use: importing the package, or its settings, loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_kd.cache import CacheReport, write_cache
    from distill_kd.cache_settings import CacheSettings
    from distill_kd.cache_survey import cache_fingerprint
    from distill_kd.cached_teacher import CachedTeacher
    from distill_kd.divergences import Divergence, forward_kl, jensen_shannon, reverse_kl
    from distill_kd.errors import (
        CacheError,
        CacheMismatchError,
        DistillError,
        NonFiniteLogitsError,
        ShapeError,
        VocabularyError,
    )
    from distill_kd.generation import generate_teacher
    from distill_kd.objective import LossParts, Objective
    from distill_kd.settings import DIVERGENCE_NAMES, TASKS, DistillSettings, Task
    from distill_kd.teachers import DenseTarget, LiveTeacher, Teacher, TopKTarget
    from distill_kd.trainer import DistillationTrainer
    from distill_kd.vocabulary import SharedVocabulary, check_vocabularies

__all__ = [
    "DIVERGENCE_NAMES",
    "TASKS",
    "CacheError",
    "CacheMismatchError",
    "CacheReport",
    "CacheSettings",
    "CachedTeacher",
    "DenseTarget",
    "DistillError",
    "DistillSettings",
    "DistillationTrainer",
    "Divergence",
    "LiveTeacher",
    "LossParts",
    "NonFiniteLogitsError",
    "Objective",
    "ShapeError",
    "SharedVocabulary",
    "Task",
    "Teacher",
    "TopKTarget",
    "VocabularyError",
    "cache_fingerprint",
    "check_vocabularies",
    "forward_kl",
    "generate_teacher",
    "jensen_shannon",
    "reverse_kl",
    "write_cache",
]

_MODULE_OF = {
    "CacheError": "errors",
    "CacheMismatchError": "errors",
    "CacheReport": "cache",
    "CacheSettings": "cache_settings",
    "CachedTeacher": "cached_teacher",
    "cache_fingerprint": "cache_survey",
    "write_cache": "cache",
    "DIVERGENCE_NAMES": "settings",
    "TASKS": "settings",
    "DenseTarget": "teachers",
    "DistillError": "errors",
    "DistillSettings": "settings",
    "DistillationTrainer": "trainer",
    "Divergence": "divergences",
    "LiveTeacher": "teachers",
    "LossParts": "objective",
    "NonFiniteLogitsError": "errors",
    "Objective": "objective",
    "ShapeError": "errors",
    "SharedVocabulary": "vocabulary",
    "Task": "settings",
    "Teacher": "teachers",
    "TopKTarget": "teachers",
    "VocabularyError": "errors",
    "check_vocabularies": "vocabulary",
    "forward_kl": "divergences",
    "generate_teacher": "generation",
    "jensen_shannon": "divergences",
    "reverse_kl": "divergences",
}


def __getattr__(name: str) -> object:
    """Import ``name`` from the module that owns it, or read ``__version__`` from the metadata."""
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-kd")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Public names."""
    return sorted(__all__)
