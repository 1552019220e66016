"""The commands that execute runs: quickstart, run, resume, cache."""

import argparse
from typing import TYPE_CHECKING

from distill_app_trainer.commands.command import Command, add_json, add_run_file, prepare

if TYPE_CHECKING:
    from distill_app_trainer.execute import FinishedRun


def quickstart(arguments: argparse.Namespace) -> None:
    """Run the shipped example: distil a small model, compare it with its baseline, export it."""
    arguments.run_file = "quickstart"
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Run the stages of a run file."""
    plan = prepare(arguments.run_file, arguments.overrides)
    from distill_app_trainer.execute import execute
    from distill_app_trainer.run.display import Display

    display = Display(quiet=arguments.as_json)
    _print(execute(plan, display=display, debug=arguments.debug), as_json=arguments.as_json)


def resume(arguments: argparse.Namespace) -> None:
    """Resume a run that was stopped: finished jobs are not done again."""
    from pathlib import Path

    from distill_app_trainer.run.folder import RUN_FILE, find_run

    path = find_run(Path(arguments.folder))
    plan = prepare(path / RUN_FILE)
    from distill_app_trainer.execute import execute
    from distill_app_trainer.run.display import Display

    display = Display(quiet=arguments.as_json)
    done = execute(plan, display=display, debug=arguments.debug, unfinished=path)
    _print(done, as_json=arguments.as_json)


def cache(arguments: argparse.Namespace) -> None:
    """Run a run file until its teachers' distributions are cached; resume does the rest."""
    from distill_app_trainer.errors import RunFileError

    plan = prepare(arguments.run_file, arguments.overrides)
    caches = [name for name, stage in plan.config.stages.items() if stage.makes == "cache"]
    if not caches:
        raise RunFileError(
            f"{arguments.run_file} has no stage of kind 'cache_teacher'. Add one, such as [stages.cached].",
            fix=f"distill-train plan {arguments.run_file}",
        )
    from distill_app_trainer.execute import execute, shown
    from distill_app_trainer.run.display import Display

    finished = execute(plan, display=Display(), debug=arguments.debug, until=caches)
    print("\n".join(shown(finished.path / "data" / name) for name in caches))
    print(f"Next:   {finished.next_command}")


def _print(finished: "FinishedRun", *, as_json: bool) -> None:
    """Print the results of a run."""
    import json

    from distill_app_trainer.execute import shown
    from distill_app_trainer.report.results import to_dict

    assert finished.report is not None  # noqa: S101 - the run came to its end
    if as_json:
        print(json.dumps({"folder": str(finished.path), **to_dict(finished.report.content)}))
        return
    text = finished.report.summary()
    if text:
        print(text)
    print(f"Report: {shown(finished.path / 'report.html')}")
    if finished.next_command:
        print(f"Next:   {finished.next_command}")


def _runs(parser: argparse.ArgumentParser) -> None:
    add_run_file(parser)
    add_json(parser)


def _quickstart(parser: argparse.ArgumentParser) -> None:
    add_run_file(parser, named=False)
    add_json(parser)


def _resumes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="the folder of a run")
    add_json(parser)


QUICKSTART = Command(quickstart, _quickstart)
RUN = Command(run, _runs)
RESUME = Command(resume, _resumes)
CACHE = Command(cache, add_run_file)
