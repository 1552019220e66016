"""What a command is, and what several of them share."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_app_trainer.plan.plan import RunPlan


@dataclass(frozen=True)
class Command:
    """One command of ``distill-train``.

    Attributes:
        run: Does it; the first line of its docstring is the help. False means that a quality gate failed.
        add_arguments: Adds its arguments to the parser.
    """

    run: Callable[[argparse.Namespace], bool | None]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")


def add_run_file(parser: argparse.ArgumentParser, *, named: bool = True) -> None:
    """Add the run file, unless the command names it itself, and ``--set``."""
    if named:
        file = parser.add_argument(
            "run_file", metavar="RUN", help="a run file (.toml), or the name of one that ships"
        )
        file.completer = _run_files  # type: ignore[attr-defined]  # argcomplete looks for it
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="such as stages.baseline.train.steps=100",
    )


def positive(text: str) -> int:
    """A whole number above 0, as an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def prepare(run_file: str | Path, overrides: Sequence[str] = ()) -> "RunPlan":
    """Read a run file, check it, and plan it for this machine.

    Args:
        run_file: A path, or the name of a run file that ships.
        overrides: ``"a.b=value"`` each.

    Raises:
        RunFileError: The file cannot be run.
    """
    from distill_app_trainer.runfile.locate import find_run_file

    path = find_run_file(str(run_file))
    from distill_app_trainer.checks import check_run
    from distill_app_trainer.plan.plan import make_plan
    from distill_app_trainer.runfile.read import read_run_file

    config = read_run_file(path, overrides)
    return make_plan(config, check_run(config))


def _run_files(prefix: str, **_: object) -> list[str]:
    """What RUN could be: names of examples, files, and folders on the way to them."""
    from distill_app_trainer.runfile.locate import example_names

    start = Path(prefix)
    above = start if prefix.endswith("/") else start.parent
    folders = [f"{path}/" for path in above.iterdir() if path.is_dir()] if above.is_dir() else []
    return [*example_names(), *map(str, above.glob("*.toml")), *folders]
