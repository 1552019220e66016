"""``distill-metrics HYP... REF``: score files of texts and compare systems; ``distill-metrics baseline``."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from distill_metrics.errors import EmptyTextError, MetricError, SettingError, ShapeError
from distill_metrics.names import ENCODER_METRIC_NAMES, METRIC_GROUPS, METRIC_NAMES, check_metric_names
from distill_metrics.results import MetricResult, Reference

_USAGE = 2
_INTERRUPTED = 130
_DEFAULT = "rouge1,rougeL,bleu,chrf"
_ALLOWED = (*METRIC_NAMES, *METRIC_GROUPS, *ENCODER_METRIC_NAMES, "bertscore")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0, 2 for input that cannot be scored (one line on stderr says why), 130 when
        interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if "--version" in given:
            from distill_metrics._version import __version__

            print(f"distill-metrics {__version__}")
        elif given[:1] == ["baseline"]:
            print(_baseline(_baseline_parser().parse_args(given[1:])))
        else:
            arguments = _parser().parse_args(given)
            print(_run(arguments, expand(arguments.metrics)))
    except (MetricError, OSError) as error:
        print(f"distill-metrics: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def expand(names: str) -> tuple[str, ...]:
    """Metric names out of a comma-separated list; ``rouge`` stands for its four variants.

    Args:
        names: Such as ``"rouge,wer"``.

    Raises:
        UnknownMetricError: There is no such metric; the nearest is named.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    groups = {**METRIC_GROUPS, "bertscore": ENCODER_METRIC_NAMES}
    check_metric_names(asked, also=(*groups, *ENCODER_METRIC_NAMES))
    spelt = [full for name in asked for full in groups.get(name, (name,))]
    return tuple(dict.fromkeys(spelt))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-metrics",
        description="Score files of predictions against a file of references; several systems are compared.",
    )
    parser.add_argument(
        "hypotheses",
        nargs="+",
        metavar="HYP",
        help="predictions: a text file or .jsonl, also .gz; - is standard input",
    )
    parser.add_argument("references", metavar="REF", help="references, in the same order")
    parser.add_argument("--metrics", default=_DEFAULT, help=f"comma-separated: {', '.join(_ALLOWED)}")
    parser.add_argument(
        "--tokenizer", default=None, help="tokenizer of ROUGE: rouge_score, unicode, character"
    )
    parser.add_argument("--samples", type=int, default=2000, help="bootstrap resamples; 0 for no intervals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling")
    parser.add_argument("--json", action="store_true", help="print one JSON object, in full precision")
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument(
        "--per-example", metavar="FILE", help="write the values of each example as JSON Lines"
    )
    bertscore = parser.add_argument_group("BERTScore")
    bertscore.add_argument("--encoder", metavar="DIR", help="folder of the encoder, or its name on the hub")
    bertscore.add_argument("--layer", type=int, help="number of layers of the encoder that are used")
    bertscore.add_argument("--known-as", metavar="NAME", help="the encoder's name in bert-score's tables")
    bertscore.add_argument("--idf", action="store_true", help="weigh tokens by how rare they are")
    bertscore.add_argument(
        "--rescale", action="store_true", help="rescale scores so that unrelated texts score about 0"
    )
    bertscore.add_argument("--baseline", metavar="FILE", help="file that `distill-metrics baseline` wrote")
    bertscore.add_argument("--lang", help="rescale with the baseline that bert-score ships for this language")
    return parser


def _baseline_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-metrics baseline",
        description="Compute what unrelated texts score, so that BERTScore can be rescaled.",
    )
    parser.add_argument("--encoder", metavar="DIR", required=True, help="folder, or name on the hub")
    parser.add_argument("--text", metavar="FILE", required=True, help="sentences, one a line")
    parser.add_argument("--out", metavar="FILE", required=True, help="where the baseline is written")
    parser.add_argument(
        "--layer", type=int, action="append", help="layer to compute it for; may be repeated; 0 for all"
    )
    parser.add_argument("--pairs", type=int, default=10_000, help="largest number of pairs of sentences")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pairing")
    return parser


def _baseline(arguments: argparse.Namespace) -> str:
    from distill_metrics.baseline import compute_baseline, write_baseline
    from distill_metrics.files import read_predictions

    texts = read_predictions(arguments.text)
    _quieten()
    found = compute_baseline(
        arguments.encoder, texts, layers=arguments.layer, pairs=arguments.pairs, seed=arguments.seed
    )
    write_baseline(arguments.out, found)
    lines = [f"layer {layer}: P {p:.4f}  R {r:.4f}  F1 {f:.4f}" for layer, (p, r, f) in found.items()]
    return "\n".join([*lines, f"written to {arguments.out}"])


def _settings(arguments: argparse.Namespace, metrics: Sequence[str]) -> dict[str, dict[str, object]]:
    """The settings of each metric, out of the options."""
    settings: dict[str, dict[str, object]] = {}
    if arguments.tokenizer is not None:
        settings = {name: {"tokenizer": arguments.tokenizer} for name in metrics if name.startswith("rouge")}
    options = ("encoder", "layer", "known_as", "idf", "rescale", "baseline", "lang")
    given = {key: value for key in options if (value := getattr(arguments, key))}
    wanted = [name for name in metrics if name in ENCODER_METRIC_NAMES]
    if given and not wanted:
        raise SettingError(
            f"--{next(iter(given)).replace('_', '-')} is for BERTScore: add --metrics bertscore.",
            field="metrics",
            suggestion="bertscore",
        )
    if wanted and "encoder" not in given:
        raise SettingError(f"{wanted[0]} needs an encoder: --encoder DIR.", field="encoder")
    return {**settings, **dict.fromkeys(wanted, given)}


def _run(arguments: argparse.Namespace, metrics: tuple[str, ...]) -> str:
    from distill_metrics.comparison import compare_many
    from distill_metrics.files import read_predictions, read_references
    from distill_metrics.scoring import score

    paths: list[str] = arguments.hypotheses
    if len(set(paths)) < len(paths):
        raise ShapeError("The same file of predictions is named twice; give each system once.")
    if [*paths, arguments.references].count("-") > 1:
        raise ShapeError("Standard input, -, is named twice; it can stand for one file.")
    references = read_references(arguments.references)
    systems = {path: read_predictions(path) for path in paths}
    for path, texts in systems.items():
        _check(path, texts, arguments.references, references)
    settings = _settings(arguments, metrics)
    if any(name in ENCODER_METRIC_NAMES for name in metrics):
        _quieten()
    options = {"samples": arguments.samples, "seed": arguments.seed}
    interval = 0.95 if arguments.samples > 0 else None
    try:
        results = {
            path: score(texts, references, metrics=metrics, interval=interval, settings=settings, **options)
            for path, texts in systems.items()
        }
    except EmptyTextError as error:
        raise EmptyTextError(f"{arguments.references}: {_with_lines(str(error))}") from error
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


def _with_lines(message: str) -> str:
    """Examples are counted from 0 in Python, lines of a file from 1."""
    return re.sub(r"\bexample (\d+)", lambda found: f"line {int(found[1]) + 1}", message)


def _quieten() -> None:
    """No progress bars of transformers: standard error is for errors here."""
    try:
        from transformers.utils import logging
    except ImportError:
        return  # said better where the encoder is loaded
    quieten: Callable[[], None] = logging.disable_progress_bar
    quieten()


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
    """A line a system and a column a metric, with the interval in brackets."""
    first = next(iter(results.values()))
    header = [f"{next(iter(first.values())).n} examples, percent", *first]
    rows = [[path, *(_cell(result) for result in scores.values())] for path, scores in results.items()]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in (header, *rows)
    ]
    empty = [
        f"{path}: {most} empty predictions, which score 0"
        for path, scores in results.items()
        if (most := max(result.empty_predictions for result in scores.values()))
    ]
    return "\n".join([*lines, *empty])


def _cell(result: MetricResult) -> str:
    bounds = "" if result.interval is None else " [{:.2f}, {:.2f}]".format(*result.interval)
    return f"{result.value:.2f}{bounds}"


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
