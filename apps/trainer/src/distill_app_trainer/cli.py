"""``distill-train``: quickstart, run, plan. The result goes to stdout, the talk to stderr."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from distill_app_trainer.config import Adapter
    from distill_app_trainer.runner import FinishedRun

_FAILED, _USAGE, _TOO_BIG, _REFUSED, _INTERRUPTED = 1, 2, 3, 4, 130

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, distil, evaluate and export small language models from one run file.",
)

RunFile = Annotated[
    str, typer.Argument(metavar="RUN", help="A run file (.toml) or the name of a shipped one.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as stages.twin.train.steps=100.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from, and warnings.")]


@app.command()
def quickstart(
    overrides: Overrides = None,
    as_json: AsJson = False,  # noqa: FBT002
    debug: Debug = False,  # noqa: FBT002
) -> None:
    """Run the shipped example: distil a small model, compare it with its twin, export it."""
    _run("quickstart", overrides or [], as_json=as_json, debug=debug)


@app.command()
def run(
    run_file: RunFile,
    overrides: Overrides = None,
    as_json: AsJson = False,  # noqa: FBT002
    debug: Debug = False,  # noqa: FBT002
) -> None:
    """Run the stages of a run file."""
    _run(run_file, overrides or [], as_json=as_json, debug=debug)


@app.command()
def resume(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder of an unfinished run.")],
    as_json: AsJson = False,  # noqa: FBT002
    debug: Debug = False,  # noqa: FBT002
) -> None:
    """Go on with a run that was stopped: jobs that are over are not done again."""
    from pathlib import Path

    from distill_app_trainer.checks import check_run
    from distill_app_trainer.display import Display
    from distill_app_trainer.folders import find_run
    from distill_app_trainer.planning import make_plan
    from distill_app_trainer.reading import read_run_file
    from distill_app_trainer.runner import execute

    path = find_run(Path(folder))
    config = read_run_file(path / "run.toml")
    made = make_plan(config, check_run(config))
    display = Display(quiet=as_json)
    _print(execute(config, made, display=display, debug=debug, unfinished=path), as_json=as_json)


@app.command()
def cache(
    run_file: RunFile,
    overrides: Overrides = None,
    debug: Debug = False,  # noqa: FBT002
) -> None:
    """Run a run file as far as its teachers' distributions are stored; ``resume`` does the rest."""
    from distill_app_trainer.checks import check_run
    from distill_app_trainer.config import StoreStage
    from distill_app_trainer.display import Display
    from distill_app_trainer.errors import RunFileError
    from distill_app_trainer.planning import make_plan
    from distill_app_trainer.reading import read_run_file
    from distill_app_trainer.runfiles import find_run_file
    from distill_app_trainer.runner import execute, shown

    config = read_run_file(find_run_file(run_file), overrides or [])
    stores = [name for name, stage in config.stages.items() if isinstance(stage, StoreStage)]
    if not stores:
        raise RunFileError(f"{run_file} has no stage of kind 'store'. Add one, such as [stages.stored].")
    made = make_plan(config, check_run(config))
    finished = execute(config, made, display=Display(), debug=debug, until=stores)
    print("\n".join(shown(finished.path / "data" / name) for name in stores))
    print(f"Next:   {finished.next_command}")


@app.command("list")
def list_runs(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where run folders lie.")] = "runs",
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Name the runs of a folder with their state and first figures."""
    from distill_app_trainer.listing import print_runs

    print_runs(folder, as_json=as_json)


@app.command()
def report(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder of a finished run.")],
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Print what a finished run found, and write its report.html anew."""
    from distill_app_trainer.listing import print_report

    print_report(folder, as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON schema of a run file, for editors."""
    import json

    from distill_app_trainer.reading import run_file_schema

    print(json.dumps(run_file_schema(), indent=2))


@app.command()
def plan(
    run_file: RunFile,
    overrides: Overrides = None,
    as_json: AsJson = False,  # noqa: FBT002
    time: Annotated[bool, typer.Option("--measure", help="Time a few steps of each training.")] = False,  # noqa: FBT002
    debug: Debug = False,  # noqa: FBT002
) -> None:
    """Show what a run would do here and why, without doing it; exit code 3 when it would not fit."""
    import json

    from distill_app_trainer.checks import check_run
    from distill_app_trainer.display import plan_text
    from distill_app_trainer.measuring import describe, measure
    from distill_app_trainer.planning import make_plan
    from distill_app_trainer.quiet import quieten
    from distill_app_trainer.reading import read_run_file
    from distill_app_trainer.runfiles import find_run_file
    from distill_app_trainer.texts import load_texts

    config = read_run_file(find_run_file(run_file), overrides or [])
    made = make_plan(config, check_run(config))
    if not debug:
        quieten()
    texts = load_texts(config)
    rows = {name: len(part) for name, part in texts.items()}
    if not as_json:
        print(plan_text(made, rows).rstrip("\n"))
    made.refuse_if_too_big()
    rates = measure(made, texts) if time else {}
    if as_json:
        seconds = {job.system: rate for job, rate in rates.items()}
        print(json.dumps({**made.to_dict(), "rows": rows, "seconds_per_step": seconds}, default=str))
    elif time:
        print(describe(made, rows, rates))


@app.command()
def data(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What a run file's [data] could name.")],
    model: Annotated[str, typer.Option("--model", help="Whose tokenizer reads it: a folder or a hub name.")],
    task: Annotated[str, typer.Option(help="causal, seq2seq or masked; auto asks the model.")] = "auto",
    columns: Annotated[list[str] | None, typer.Option("--column", metavar="OURS=THEIRS")] = None,
    max_source_length: Annotated[int | None, typer.Option(min=1)] = None,
    max_target_length: Annotated[int | None, typer.Option(min=1)] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Report on data before it is used: what is wrong, cut, unknown, repeated; exit code 4 when useless."""
    from distill_app_trainer.datareport import print_data_report

    limits = (max_source_length, max_target_length)
    if not print_data_report(file, model, task, columns or [], limits, as_json=as_json):
        raise typer.Exit(_REFUSED)


@app.command()
def new(
    model: Annotated[str, typer.Option("--from", help="What to train: a folder or a hub name.")],
    file: Annotated[str, typer.Option("--data", help="One file; it is split into train, validation, test.")],
    teacher: Annotated[str | None, typer.Option(help="Distil from this model.")] = None,
    adapter: Annotated[str, typer.Option(help="auto, full, lora or qlora.")] = "auto",
    out: Annotated[str, typer.Option(help="The run file to write.")] = "run.toml",
) -> None:
    """Write a commented run file with everything resolved."""
    from pathlib import Path

    from distill_app_trainer.newrun import write_run_file

    write_run_file(Path(out), model=model, data=file, teacher=teacher, adapter=cast("Adapter", adapter))
    print(f"{out}\nNext:   distill-train plan {out}")


@app.command()
def examples() -> None:
    """Name the run files that ship with this command."""
    from distill_app_trainer.runfiles import example_names

    print("\n".join(example_names()))


def _version(value: bool) -> None:  # noqa: FBT001 - the callback of an option
    if value:
        from importlib.metadata import version

        print(f"distill-train {version('distill-app-trainer')}")
        raise typer.Exit


@app.callback()
def _options(
    *, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False
) -> None:
    """Train, distil, evaluate and export small language models from one run file."""


def _run(name: str, overrides: Sequence[str], *, as_json: bool, debug: bool) -> None:

    from distill_app_trainer.checks import check_run
    from distill_app_trainer.display import Display
    from distill_app_trainer.planning import make_plan
    from distill_app_trainer.reading import read_run_file
    from distill_app_trainer.runfiles import find_run_file
    from distill_app_trainer.runner import execute

    config = read_run_file(find_run_file(name), overrides)
    made = make_plan(config, check_run(config))
    finished = execute(config, made, display=Display(quiet=as_json), debug=debug)
    _print(finished, as_json=as_json)


def _print(finished: "FinishedRun", *, as_json: bool) -> None:
    """What came out of a run."""
    import json

    from distill_app_trainer.runner import shown

    assert finished.report is not None  # noqa: S101 - of a run to its end
    if as_json:
        print(json.dumps({"folder": str(finished.path), **finished.report.content}, default=str))
        return
    text = finished.report.summary()
    if text:
        print(text)
    print(f"Report: {shown(finished.path / 'report.html')}")
    if finished.next_command:
        print(f"Next:   {finished.next_command}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 1 a failure; 2 something asked for cannot be done, found before torch is imported;
        3 it would not fit this machine; 4 a quality gate failed; 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if "--debug" in arguments:
        return _exit_code(arguments)
    try:
        return _exit_code(arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", _INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into one line
        return _complain(str(error) or type(error).__name__, _code(error))


def _exit_code(arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="distill-train")
    except SystemExit as done:
        if done.code == _INTERRUPTED:  # typer has turned Ctrl-C into it, without a word
            raise KeyboardInterrupt from None
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def _code(error: Exception) -> int:
    from distill_app_trainer.errors import RunFileError, RunFolderError, StoppedError, WouldNotFitError

    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, StoppedError):
        return _INTERRUPTED
    if isinstance(error, RunFileError | RunFolderError) or names & {
        "DataError",
        "UnsupportedPolicyError",
        "MetricError",
    }:
        return _USAGE
    if isinstance(error, WouldNotFitError):
        return _TOO_BIG
    return _REFUSED if "ExportRefusedError" in names else _FAILED


def _complain(text: str, code: int) -> int:
    """One line, whatever the message holds."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code
