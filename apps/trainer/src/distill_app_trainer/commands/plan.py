"""The command ``plan``."""

import argparse

from distill_app_trainer.commands.command import Command, add_json, add_run_file, prepare


def plan(arguments: argparse.Namespace) -> None:
    """Show what a run would do here and why, without doing it; exit code 3 when it would not fit."""
    import json

    made = prepare(arguments.run_file, arguments.overrides)
    from distill_adapters.quiet import quieten
    from distill_app_trainer.commands.timing import describe, measure
    from distill_app_trainer.run.data import load_texts
    from distill_app_trainer.run.display import plan_text

    if not arguments.debug:
        quieten()
    texts = load_texts(made.config)
    rows = {name: len(part) for name, part in texts.items()}
    if not arguments.as_json:
        print(plan_text(made, rows).rstrip("\n"))
    made.refuse_if_too_big()
    rates = measure(made, texts) if arguments.measure else {}
    if arguments.as_json:
        seconds = {job.system: rate for job, rate in rates.items()}
        print(json.dumps({**made.to_dict(), "rows": rows, "seconds_per_step": seconds}, default=str))
    elif arguments.measure:
        print(describe(made, rows, rates))


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run_file(parser)
    add_json(parser)
    parser.add_argument("--measure", action="store_true", help="time a few steps of each training")


PLAN = Command(plan, _arguments)
