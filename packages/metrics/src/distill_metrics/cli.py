"""``distill-metrics HYP... REF``: score files of texts and compare systems."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

from distill_metrics.errors import MetricError, ShapeError
from distill_metrics.names import METRIC_GROUPS, METRIC_NAMES, check_metric_names
from distill_metrics.results import MetricResult, Reference

_USAGE = 2
_INTERRUPTED = 130
_DEFAULT = "rouge1,rougeL,bleu,chrf"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 2 for input that cannot be scored (one line on stderr says why), 130 when
        interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        metrics = expand(arguments.metrics)
        print(_run(arguments, metrics))
    except (MetricError, FileNotFoundError) as error:
        print(f"distill-metrics: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def expand(names: str) -> tuple[str, ...]:
    """Metric names out of a comma-separated list; ``rouge`` stands for its four variants.

    Raises:
        UnknownMetricError: A name is neither a metric nor a group; the nearest is named.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    check_metric_names(asked, allowed=(*METRIC_NAMES, *METRIC_GROUPS))
    spelt = [full for name in asked for full in METRIC_GROUPS.get(name, (name,))]
    return tuple(dict.fromkeys(spelt))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-metrics",
        description="Score files of predictions against a file of references; several systems are compared.",
    )
    parser.add_argument(
        "hypotheses", nargs="+", metavar="HYP", help="predictions: text or .jsonl, also .gz, or -"
    )
    parser.add_argument("references", metavar="REF", help="references, in the same order")
    parser.add_argument(
        "--metrics", default=_DEFAULT, help=f"comma-separated: {', '.join((*METRIC_NAMES, *METRIC_GROUPS))}"
    )
    parser.add_argument(
        "--tokenizer", default=None, help="tokenizer of ROUGE: rouge_score, unicode, character"
    )
    parser.add_argument("--samples", type=int, default=2000, help="bootstrap resamples; 0 for no intervals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling")
    parser.add_argument("--json", action="store_true", help="print one JSON object, full precision")
    parser.add_argument(
        "--per-example", metavar="FILE", help="write the values of each example as JSON Lines"
    )
    return parser


def _run(arguments: argparse.Namespace, metrics: tuple[str, ...]) -> str:
    from distill_metrics.comparison import compare_many, score
    from distill_metrics.files import read_predictions, read_references

    paths: list[str] = arguments.hypotheses
    if len(set(paths)) < len(paths):
        raise ShapeError("The same file of predictions is named twice; give each system once.")
    references = read_references(arguments.references)
    systems = {path: read_predictions(path) for path in paths}
    for path, texts in systems.items():
        _check(path, texts, arguments.references, references)
    settings: dict[str, dict[str, object]] = {}
    if arguments.tokenizer is not None:
        settings = {name: {"tokenizer": arguments.tokenizer} for name in metrics if name.startswith("rouge")}
    options = {"samples": arguments.samples, "seed": arguments.seed}
    interval = 0.95 if arguments.samples > 0 else None
    results = {
        path: score(texts, references, metrics=metrics, interval=interval, settings=settings, **options)
        for path, texts in systems.items()
    }
    if arguments.per_example:
        _write_per_example(arguments.per_example, results)
    comparisons: list[dict[str, object]] = []
    statements: list[str] = []
    if len(systems) > 1 and arguments.samples > 0:
        for name in metrics:
            many = compare_many(systems, references, metric=name, settings=settings.get(name), **options)
            comparisons += [one.to_dict() for one in many]
            statements += [one.statement() for one in many]
    if arguments.json:
        return _json(results, comparisons)
    return "\n".join([_table(results), *statements])


def _check(path: str, texts: Sequence[str], reference_path: str, references: Sequence[Reference]) -> None:
    if len(texts) != len(references):
        raise ShapeError(f"{path} has {len(texts)} lines but {reference_path} has {len(references)}.")
    if not any(text.strip() for text in texts):
        raise ShapeError(f"{path}: all {len(texts)} predictions are empty.")


def _json(results: Mapping[str, Mapping[str, MetricResult]], comparisons: list[dict[str, object]]) -> str:
    plain = {
        path: {"metrics": {name: result.to_dict() for name, result in scores.items()}}
        for path, scores in results.items()
    }
    if len(plain) == 1:
        return json.dumps(next(iter(plain.values())))
    return json.dumps({"systems": plain, "comparisons": comparisons})


def _table(results: Mapping[str, Mapping[str, MetricResult]]) -> str:
    lines = []
    for path, scores in results.items():
        n = next(iter(scores.values())).n
        lines.append(f"{path} ({n} examples)")
        for name, result in scores.items():
            bounds = "" if result.interval is None else "   {:.2f} to {:.2f}".format(*result.interval)
            empty = f"   {result.empty_predictions} empty" if result.empty_predictions else ""
            lines.append(f"  {name:<14}{result.value:8.2f} %{bounds}{empty}")
    return "\n".join(lines)


def _write_per_example(path: str, results: Mapping[str, Mapping[str, MetricResult]]) -> None:
    """One line a system and example, whole or not at all."""
    from pathlib import Path

    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("w", encoding="utf-8") as out:
        for system, scores in results.items():
            columns = {name: r.per_example for name, r in scores.items() if r.per_example is not None}
            for row in range(next(iter(scores.values())).n):
                values = {name: column[row] for name, column in columns.items()}
                out.write(json.dumps({"system": system, "row": row, **values}) + "\n")
    partial.replace(target)
