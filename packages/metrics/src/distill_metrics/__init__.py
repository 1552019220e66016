"""ROUGE, BLEU, chrF, BERTScore, error rates and perplexity, offline, with honest comparisons."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_metrics.agreement import (
        Agreement,
        Calibration,
        PlaceAgreement,
        ReliabilityBin,
        ece,
        entropy_gap,
        kl,
        top1_agreement,
    )
    from distill_metrics.baseline import compute_baseline, read_baseline, write_baseline
    from distill_metrics.bertscore import bertscore_f1, bertscore_precision, bertscore_recall
    from distill_metrics.classification import accuracy, f1
    from distill_metrics.comparison import (
        Comparison,
        compare,
        compare_log_probs,
        compare_many,
        score,
        score_log_probs,
    )
    from distill_metrics.corpus import bleu, bleu_smoothed, chrf, chrfpp, ter
    from distill_metrics.edits import cer, per, wer
    from distill_metrics.encoder import Encoder
    from distill_metrics.errors import (
        EmptyPredictionsWarning,
        EmptyTextError,
        FileFormatError,
        MetricError,
        MissingExtraError,
        SettingError,
        ShapeError,
        TextTypeError,
        UnknownMetricError,
    )
    from distill_metrics.likelihood import perplexity, perplexity_from_log_probs, pseudo_perplexity
    from distill_metrics.names import (
        ENCODER_METRIC_NAMES,
        METRIC_GROUPS,
        METRIC_NAMES,
        MODEL_METRIC_NAMES,
        check_metric_names,
        lower_is_better,
    )
    from distill_metrics.overlap import exact_match, token_f1
    from distill_metrics.results import MetricResult, Reference
    from distill_metrics.rouge import rouge1, rouge2, rougeL, rougeLsum
    from distill_metrics.running import MetricInfo, RunningMetric, evaluate_metric, load
    from distill_metrics.slices import compare_slices, retention, score_slices
    from distill_metrics.table import ENCODER_METRICS, METRICS, Metric
    from distill_metrics.trainer import HFMetricHelper

    __version__: str

_HOME = {
    "running": (
        "MetricInfo",
        "RunningMetric",
        "evaluate_metric",
        "load",
    ),
    "slices": (
        "compare_slices",
        "retention",
        "score_slices",
    ),
    "likelihood": (
        "perplexity",
        "perplexity_from_log_probs",
        "pseudo_perplexity",
    ),
    "classification": (
        "accuracy",
        "f1",
    ),
    "agreement": (
        "Agreement",
        "Calibration",
        "PlaceAgreement",
        "ReliabilityBin",
        "ece",
        "entropy_gap",
        "kl",
        "top1_agreement",
    ),
    "encoder": ("Encoder",),
    "baseline": (
        "compute_baseline",
        "read_baseline",
        "write_baseline",
    ),
    "bertscore": (
        "bertscore_f1",
        "bertscore_precision",
        "bertscore_recall",
    ),
    "comparison": (
        "Comparison",
        "compare",
        "compare_log_probs",
        "compare_log_probs",
        "compare_many",
        "score",
        "score_log_probs",
    ),
    "corpus": ("bleu", "bleu_smoothed", "chrf", "chrfpp", "ter"),
    "edits": ("cer", "per", "wer"),
    "errors": (
        "EmptyPredictionsWarning",
        "EmptyTextError",
        "FileFormatError",
        "MetricError",
        "MissingExtraError",
        "SettingError",
        "ShapeError",
        "TextTypeError",
        "UnknownMetricError",
    ),
    "names": (
        "ENCODER_METRIC_NAMES",
        "METRIC_GROUPS",
        "METRIC_NAMES",
        "MODEL_METRIC_NAMES",
        "check_metric_names",
        "lower_is_better",
    ),
    "overlap": ("exact_match", "token_f1"),
    "results": ("MetricResult", "Reference"),
    "rouge": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    "table": ("ENCODER_METRICS", "METRICS", "Metric"),
    "trainer": ("HFMetricHelper",),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ENCODER_METRICS",
    "ENCODER_METRIC_NAMES",
    "METRICS",
    "METRIC_GROUPS",
    "METRIC_NAMES",
    "MODEL_METRIC_NAMES",
    "Agreement",
    "Calibration",
    "Comparison",
    "EmptyPredictionsWarning",
    "EmptyTextError",
    "Encoder",
    "FileFormatError",
    "HFMetricHelper",
    "Metric",
    "MetricError",
    "MetricInfo",
    "MetricResult",
    "MissingExtraError",
    "PlaceAgreement",
    "Reference",
    "ReliabilityBin",
    "RunningMetric",
    "SettingError",
    "ShapeError",
    "TextTypeError",
    "UnknownMetricError",
    "__version__",
    "accuracy",
    "bertscore_f1",
    "bertscore_precision",
    "bertscore_recall",
    "bleu",
    "bleu_smoothed",
    "cer",
    "check_metric_names",
    "chrf",
    "chrfpp",
    "compare",
    "compare_log_probs",
    "compare_many",
    "compare_slices",
    "compute_baseline",
    "ece",
    "entropy_gap",
    "evaluate_metric",
    "exact_match",
    "f1",
    "kl",
    "load",
    "lower_is_better",
    "per",
    "perplexity",
    "perplexity_from_log_probs",
    "pseudo_perplexity",
    "read_baseline",
    "retention",
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "score",
    "score_log_probs",
    "score_slices",
    "ter",
    "token_f1",
    "top1_agreement",
    "wer",
    "write_baseline",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-metrics")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
