"""What each command of ``distill-train`` does; nothing heavy is imported before it is needed."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from distill_app_trainer.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from distill_app_trainer.execute import FinishedRun
    from distill_app_trainer.runfile.schema import Adapter

    Maker = Callable[[str], argparse.ArgumentParser]


def quickstart(*, overrides: Sequence[str], as_json: bool, debug: bool) -> None:
    """Run the shipped example: distil a small model, compare it with its baseline, export it."""
    run(run_file="quickstart", overrides=overrides, as_json=as_json, debug=debug)


def run(*, run_file: str, overrides: Sequence[str], as_json: bool, debug: bool) -> None:
    """Run the stages of a run file."""
    from distill_app_trainer.runfile.locate import find_run_file

    path = find_run_file(run_file)
    from distill_app_trainer.checks.stages import check_run
    from distill_app_trainer.execute import execute
    from distill_app_trainer.plan.plan import make_plan
    from distill_app_trainer.run.display import Display
    from distill_app_trainer.runfile.read import read_run_file

    config = read_run_file(path, overrides)
    made = make_plan(config, check_run(config))
    _print(execute(config, made, display=Display(quiet=as_json), debug=debug), as_json=as_json)


def resume(*, folder: str, as_json: bool, debug: bool) -> None:
    """Go on with a run that was stopped: jobs that are over are not done again."""
    from pathlib import Path

    from distill_app_trainer.run.folder import find_run

    path = find_run(Path(folder))
    from distill_app_trainer.checks.stages import check_run
    from distill_app_trainer.execute import execute
    from distill_app_trainer.plan.plan import make_plan
    from distill_app_trainer.run.display import Display
    from distill_app_trainer.runfile.read import read_run_file

    config = read_run_file(path / "run.toml")
    made = make_plan(config, check_run(config))
    display = Display(quiet=as_json)
    _print(execute(config, made, display=display, debug=debug, unfinished=path), as_json=as_json)


def cache(*, run_file: str, overrides: Sequence[str], debug: bool) -> None:
    """Run a run file as far as its teachers' distributions are stored; resume does the rest."""
    from distill_app_trainer.runfile.locate import find_run_file

    path = find_run_file(run_file)
    from distill_app_trainer.checks.stages import check_run
    from distill_app_trainer.errors import RunFileError
    from distill_app_trainer.execute import execute, shown
    from distill_app_trainer.plan.plan import make_plan
    from distill_app_trainer.run.display import Display
    from distill_app_trainer.runfile.read import read_run_file
    from distill_app_trainer.runfile.schema import CacheTeacherStage

    config = read_run_file(path, overrides)
    stores = [name for name, stage in config.stages.items() if isinstance(stage, CacheTeacherStage)]
    if not stores:
        raise RunFileError(
            f"{run_file} has no stage of kind 'store'. Add one, such as [stages.stored].",
            fix=f"distill-train plan {run_file}",
        )
    made = make_plan(config, check_run(config))
    finished = execute(config, made, display=Display(), debug=debug, until=stores)
    print("\n".join(shown(finished.path / "data" / name) for name in stores))
    print(f"Next:   {finished.next_command}")


def list_runs(*, folder: str, as_json: bool) -> None:
    """Name the runs of a folder with their state and first figures."""
    from distill_app_trainer.commands.runs import print_runs

    print_runs(folder, as_json=as_json)


def report(*, folder: str, as_json: bool) -> None:
    """Print what a finished run found, and write its report.html anew."""
    from distill_app_trainer.commands.runs import print_report

    print_report(folder, as_json=as_json)


def schema() -> None:
    """Print the JSON schema of a run file, for editors."""
    import json

    from distill_app_trainer.runfile.read import run_file_schema

    print(json.dumps(run_file_schema(), indent=2))


def plan(*, run_file: str, overrides: Sequence[str], as_json: bool, measure: bool, debug: bool) -> None:
    """Show what a run would do here and why, without doing it; exit code 3 when it would not fit."""
    from distill_app_trainer.runfile.locate import find_run_file

    path = find_run_file(run_file)
    import json

    from distill_app_trainer.checks.stages import check_run
    from distill_app_trainer.commands import timing
    from distill_app_trainer.plan.plan import make_plan
    from distill_app_trainer.run.data import load_texts
    from distill_app_trainer.run.display import plan_text
    from distill_app_trainer.run.quiet import quieten
    from distill_app_trainer.runfile.read import read_run_file

    config = read_run_file(path, overrides)
    made = make_plan(config, check_run(config))
    if not debug:
        quieten()
    texts = load_texts(config)
    rows = {name: len(part) for name, part in texts.items()}
    if not as_json:
        print(plan_text(made, rows).rstrip("\n"))
    made.refuse_if_too_big()
    rates = timing.measure(made, texts) if measure else {}
    if as_json:
        seconds = {job.system: rate for job, rate in rates.items()}
        print(json.dumps({**made.to_dict(), "rows": rows, "seconds_per_step": seconds}, default=str))
    elif measure:
        print(timing.describe(made, rows, rates))


def data(
    *,
    file: str,
    model: str,
    task: str,
    columns: Sequence[str],
    max_source_length: int | None,
    max_target_length: int | None,
    as_json: bool,
) -> bool:
    """Report on data before it is used: what is wrong, cut, unknown, repeated; exit code 4 when useless."""
    from distill_app_trainer.commands.data import print_data_report

    limits = (max_source_length, max_target_length)
    return print_data_report(file, model, task, columns, limits, as_json=as_json)


def new(*, model: str, data: str, teacher: str | None, adapter: str, out: str) -> None:
    """Write a commented run file with everything resolved."""
    from pathlib import Path

    from distill_app_trainer.commands.new import write_run_file

    write_run_file(Path(out), model=model, data=data, teacher=teacher, adapter=cast("Adapter", adapter))
    print(f"{out}\nNext:   distill-train plan {out}")


def merge(*, adapter: str, out: str) -> None:
    """Merge a trained adapter into its base, and save the whole model."""
    from pathlib import Path

    source, target = Path(adapter), Path(out)
    if not (source / "adapter_config.json").is_file():
        raise UsageError(f"{adapter} is no adapter: it holds no adapter_config.json. Name the folder of one.")
    if target.exists():
        raise UsageError(f"{out} exists and is not overwritten. Name a folder that is not there yet.")
    from distill_app_trainer.run.quiet import quieten_libraries, wait_asleep

    wait_asleep()
    quieten_libraries()
    from distill_adapters import merge as merge_adapter

    merge_adapter(source, target)
    print(out)


def examples() -> None:
    """Name the run files that ship with this command."""
    from distill_app_trainer.runfile.locate import example_names

    print("\n".join(example_names()))


def completion(*, shell: str) -> None:
    """Print code that lets a shell complete commands and options: eval "$(distill-train completion bash)"."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["distill-train"], shell=shell))


def _print(finished: "FinishedRun", *, as_json: bool) -> None:
    """What came out of a run."""
    import json

    from distill_app_trainer.execute import shown

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


BY_NAME: dict[str, Callable[..., object]] = {
    "quickstart": quickstart,
    "run": run,
    "plan": plan,
    "resume": resume,
    "cache": cache,
    "list": list_runs,
    "report": report,
    "data": data,
    "new": new,
    "merge": merge,
    "schema": schema,
    "examples": examples,
    "completion": completion,
}
LOUD = (quickstart, run, plan, resume, cache)
"""Commands that show warnings when asked to."""
