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
    from distill_kd.chunked import chunked_divergence
    from distill_kd.divergences import (
        Divergence,
        alpha_beta,
        forward_kl,
        jensen_shannon,
        logit_mse,
        reverse_kl,
        skew_kl,
        skew_reverse_kl,
        top_k_kl,
        total_variation,
    )
    from distill_kd.errors import (
        CacheError,
        CacheMismatchError,
        DistillError,
        HeadError,
        NonFiniteLogitsError,
        ServedTeacherError,
        ShapeError,
        VocabularyError,
        WorseTeacherError,
    )
    from distill_kd.generation import generate_teacher
    from distill_kd.heads import HiddenTarget, OutputHead, head_of, hidden_and_head
    from distill_kd.objective import LossParts, Objective
    from distill_kd.preflight import Verdict
    from distill_kd.served_teacher import ServedTeacher
    from distill_kd.settings import DIVERGENCE_NAMES, LABELS, TASKS, DistillSettings, Labels, Task
    from distill_kd.teachers import DenseTarget, LiveTeacher, Target, Teacher, TopKTarget
    from distill_kd.trainer import DistillationTrainer
    from distill_kd.vocabulary import SharedVocabulary, check_vocabularies

__all__ = [
    "DIVERGENCE_NAMES",
    "LABELS",
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
    "HeadError",
    "HiddenTarget",
    "Labels",
    "LiveTeacher",
    "LossParts",
    "NonFiniteLogitsError",
    "Objective",
    "OutputHead",
    "ServedTeacher",
    "ServedTeacherError",
    "ShapeError",
    "SharedVocabulary",
    "Target",
    "Task",
    "Teacher",
    "TopKTarget",
    "Verdict",
    "VocabularyError",
    "WorseTeacherError",
    "alpha_beta",
    "cache_fingerprint",
    "check_vocabularies",
    "chunked_divergence",
    "forward_kl",
    "generate_teacher",
    "head_of",
    "hidden_and_head",
    "jensen_shannon",
    "logit_mse",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "top_k_kl",
    "total_variation",
    "write_cache",
]

_MODULE_OF = {
    "ServedTeacher": "served_teacher",
    "ServedTeacherError": "errors",
    "DIVERGENCE_NAMES": "settings",
    "LABELS": "settings",
    "TASKS": "settings",
    "CacheError": "errors",
    "CacheMismatchError": "errors",
    "CacheReport": "cache",
    "CacheSettings": "cache_settings",
    "CachedTeacher": "cached_teacher",
    "DenseTarget": "teachers",
    "DistillError": "errors",
    "DistillSettings": "settings",
    "DistillationTrainer": "trainer",
    "Divergence": "divergences",
    "HeadError": "errors",
    "HiddenTarget": "heads",
    "Labels": "settings",
    "LiveTeacher": "teachers",
    "LossParts": "objective",
    "NonFiniteLogitsError": "errors",
    "Objective": "objective",
    "OutputHead": "heads",
    "ShapeError": "errors",
    "SharedVocabulary": "vocabulary",
    "Target": "teachers",
    "Task": "settings",
    "Teacher": "teachers",
    "TopKTarget": "teachers",
    "Verdict": "preflight",
    "VocabularyError": "errors",
    "WorseTeacherError": "errors",
    "alpha_beta": "divergences",
    "cache_fingerprint": "cache_survey",
    "check_vocabularies": "vocabulary",
    "chunked_divergence": "chunked",
    "forward_kl": "divergences",
    "generate_teacher": "generation",
    "head_of": "heads",
    "hidden_and_head": "heads",
    "jensen_shannon": "divergences",
    "logit_mse": "divergences",
    "reverse_kl": "divergences",
    "skew_kl": "divergences",
    "skew_reverse_kl": "divergences",
    "top_k_kl": "divergences",
    "total_variation": "divergences",
    "write_cache": "cache",
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
