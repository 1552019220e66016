# PYTHON_ARGCOMPLETE_OK
"""``distill-eval MODEL... --data FILE``: predict, score, compare, write down."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from distill_app_evaluator.errors import Fix, Option, Retype, UsageError, words_of, written
from distill_app_evaluator.folders import TASKS, nearest
from distill_app_evaluator.request import EvaluationRequest, check_request

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = """\
examples:
  distill-eval runs/student --data test.jsonl --metrics per,exact_match --out results
  distill-eval runs/student runs/baseline --teacher runs/teacher --data test.jsonl --slices length
  distill-eval runs/student exports/int8 --data test.csv --columns source=word,target=phonemes --samples 5

exit codes: 0 done; 1 the evaluation failed; 2 it cannot be done as asked, nothing was loaded; 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fix: Fix = "distill-eval --help"
        wrong = re.match(r"argument (--[\w-]+): (invalid int value|.* is no OURS=THEIRS)", message)
        if wrong is not None:
            usual = self._option_string_actions[wrong[1]].default
            fix = Option(wrong[1], None if usual is None else str(usual))
        raise UsageError(f"{message}. See distill-eval --help.", fix=fix)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 1 when the evaluation failed; 2 when what was asked for cannot be done, which is
        found out before torch is imported; 130 when interrupted. Only the result is on stdout.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        _run(given)
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was written", _INTERRUPTED)
    except Exception as error:
        if "--debug" in given:
            raise
        fix = getattr(error, "fix", None)
        code = _USAGE if isinstance(error, UsageError) else _FAILED
        return _complain(words_of(error), code, None if fix is None else written(fix, given))
    return 0


def _run(given: Sequence[str]) -> None:
    if "--version" in given:
        from importlib.metadata import version

        print(f"distill-eval {version('distill-app-evaluator')}")
        return
    if "--completion" in given:
        from argcomplete.shell_integration import shellcode

        shell = next(iter(given[given.index("--completion") + 1 :]), "")
        if shell not in _SHELLS:
            right = Option("--completion", nearest(shell, _SHELLS) or _SHELLS[0])
            raise UsageError(f"--completion {shell!r}: allowed are {', '.join(_SHELLS)}.", fix=right)
        print(shellcode(["distill-eval"], shell=shell))
        return
    arguments = vars(_parsed(given))
    as_json = arguments.pop("json")
    for only_here in ("debug", "version", "completion"):
        del arguments[only_here]
    _evaluate(check_request(**arguments), as_json=as_json)


def _evaluate(request: EvaluationRequest, *, as_json: bool) -> None:
    """The result is printed before it is written: a full disk does not lose it."""
    from distill_app_evaluator.evaluation import evaluate

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    done = evaluate(request, say=say)
    if as_json:
        print(json.dumps(done.to_dict()))
    else:
        from distill_app_evaluator.display import text_of

        print(text_of(done))
    if request.out is not None:
        done.write(request.out)
        say(f"Wrote {request.out}: the predictions, and metrics.json.")


def _complain(text: str, code: int, fix: str | None = None) -> int:
    """One line, whatever the message holds, and one for what mends it."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    if fix is not None:
        print(f"fix:   {fix}", file=sys.stderr)
    return code


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="distill-eval",
        description="Ask models about every row of a file, score what they say, and compare them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    known = {flag for action in _add_arguments(parser) for flag in action.option_strings}
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options="long")
    for flag in (one.partition("=")[0] for one in given if one.startswith("--") and one != "--"):
        if flag not in known:
            near = nearest(flag, known)
            hint = f" Did you mean {near}?" if near else ""
            allowed = ", ".join(sorted(one for one in known if one.startswith("--")))
            raise UsageError(f"There is no option {flag}.{hint} Allowed: {allowed}.", fix=Retype(flag, near))
    return parser.parse_intermixed_args(given)


def _add_arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    add = parser.add_argument
    what = [
        add("models", nargs="+", metavar="MODEL", help="folder of a model, an adapter or an export"),
        add("--teacher", metavar="MODEL", help="measure the others against it: what share do they keep?"),
        add(
            "--data",
            required=True,
            metavar="FILE",
            help="examples: .jsonl, .csv, .tsv, .parquet, also .jsonl.gz",
        ),
        add(
            "--columns", type=_mapping, metavar="OURS=THEIRS,...", help="such as source=word,target=phonemes"
        ),
        add("--split", default="all", help="all: every row (default); test: the held-out tenth (seed 42)"),
    ]
    shown = [
        metrics := add(
            "--metrics",
            type=_names,
            default=(),
            metavar="NAME,...",
            help="such as per,exact_match or rouge,chrf",
        ),
        add(
            "--slices",
            metavar="length|COLUMN",
            help="also part by part: by length, or by the values of a column",
        ),
        add(
            "--samples", type=int, default=0, metavar="N", help="show the N worst rows: reference and answers"
        ),
        add("--out", metavar="DIR", help="new folder for the predictions and metrics.json"),
        add("--json", action="store_true", help="print one JSON object in place of tables"),
    ]
    metrics.completer = _metric_names  # type: ignore[attr-defined]  # argcomplete looks for it
    answering = [
        add("--task", metavar="TASK", help=f"{', '.join(TASKS)}; else the model's configuration tells"),
        add("--prefix", default="", metavar="TEXT", help="put before every input, such as 'translate: '"),
        add("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (64)"),
        add("--beams", type=int, default=1, metavar="N", help="beams of the search; 1 (default) is greedy"),
        add("--batch-size", type=int, default=64, metavar="N", help="rows predicted at once (64)"),
        add("--debug", action="store_true", help="show where an error comes from"),
        add("--version", action="store_true", help="print the version"),
        add("--completion", metavar="SHELL", help=f"print code that completes: {', '.join(_SHELLS)}"),
    ]
    return [*what, *shown, *answering, *parser._actions[:1]]


def _metric_names(prefix: str, **_: object) -> list[str]:
    """What the last of the names could become."""
    from distill_metrics.names import METRIC_GROUPS, METRIC_NAMES

    before = prefix[: prefix.rfind(",") + 1]
    return [before + name for name in (*METRIC_NAMES, *METRIC_GROUPS)]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _mapping(text: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in _names(text)]
    wrong = next((ours + sign for ours, sign, theirs in pairs if not (ours and theirs)), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(f"{wrong!r} is no OURS=THEIRS, such as source=word")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
