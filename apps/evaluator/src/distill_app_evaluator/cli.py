"""``distill-eval MODEL --data FILE``: predict, score, write down."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from distill_app_evaluator.request import EvaluationRequest, UsageError, check_request
from distill_metrics.cli import expand
from distill_metrics.errors import MetricError

if TYPE_CHECKING:
    from distill_app_evaluator.evaluation import Evaluation

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a model, an adapter or an export.")],
    data: Annotated[str, typer.Option(help="Examples: .jsonl, .csv, .tsv, .parquet, also .jsonl.gz.")],
    metrics: Annotated[str, typer.Option(help="Comma-separated, such as per,exact_match.")] = "",
    out: Annotated[str | None, typer.Option(help="New folder for predictions.jsonl, metrics.json.")] = None,
    split: Annotated[str, typer.Option(help="all: every row; test: the held-out tenth (seed 42).")] = "all",
    task: Annotated[str | None, typer.Option(help="causal, seq2seq or masked; else from the model.")] = None,
    prefix: Annotated[str, typer.Option(help="Put before every input, such as 'translate: '.")] = "",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 64,
    beams: Annotated[int, typer.Option(help="Beams of the search; 1 is greedy.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Rows predicted at once.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Predict the examples of a file with a model and score what it says."""
    request = check_request(
        model=model,
        data=data,
        metrics=_names(metrics),
        split=split,
        task=task,
        out=out,
        prefix=prefix,
        max_new_tokens=max_new_tokens,
        beams=beams,
        batch_size=batch_size,
    )
    print(_run(request, as_json=as_json))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 1 when the evaluation failed; 2 when what was asked for cannot be done, which is
        found out before torch is imported; 130 when interrupted. Only the result is on stdout.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _exit_code(lambda: app(arguments, prog_name="distill-eval"))
    except UsageError as error:
        return _complain(error, _USAGE)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (ImportError, OSError, ValueError, RuntimeError, MetricError) as error:
        return _complain(error, _FAILED)


def _exit_code(run: Callable[[], object]) -> int:
    try:
        run()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def _complain(error: Exception, code: int) -> int:
    """One line, whatever the message holds."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"distill-eval: {text}", file=sys.stderr)
    return code


def _names(metrics: str) -> tuple[str, ...]:
    if not metrics.strip():
        return ()
    try:
        return expand(metrics)
    except MetricError as error:
        raise UsageError(str(error)) from None


def _run(request: EvaluationRequest, *, as_json: bool) -> str:
    from distill_app_evaluator.evaluation import evaluate as run

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    done = run(request, say=say)
    if request.out is not None:
        done.write(request.out)
        say(f"Wrote {request.out / 'predictions.jsonl'} and {request.out / 'metrics.json'}.")
    return json.dumps(done.to_dict()) if as_json else _table(done)


def _table(done: "Evaluation") -> str:
    from rich.console import Console
    from rich.table import Table

    request = done.request
    table = Table(
        title=f"{request.model} on {request.data} ({len(done.predictions)} examples, {request.split})"
    )
    table.add_column("metric")
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right")
    for name, result in done.metrics.items():
        bounds = "" if result.interval is None else "{:.2f} to {:.2f}".format(*result.interval)
        table.add_row(name, f"{result.value:.2f} %", bounds)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
