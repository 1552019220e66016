# PYTHON_ARGCOMPLETE_OK
"""``distill-eval MODEL... --data FILE``: answer, score, compare, write the results."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from distill_app_evaluator.errors import Fix, Option, Retype, UsageError, message_of, nearest, written

if TYPE_CHECKING:
    from distill_app_evaluator.request import EvaluationRequest

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = """\
examples:
  distill-eval runs/student --data test.jsonl --metrics per,exact_match --out results
  distill-eval runs/student runs/baseline --teacher runs/teacher --data test.jsonl --slices length
  distill-eval runs/student exports/int8 --data test.csv --columns source=word,target=phonemes --samples 5

exit codes: 0 success; 1 the evaluation failed; 2 the request is not valid; 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fix: Fix = "distill-eval --help"
        wrong = re.match(r"argument (--[\w-]+): (invalid int value|.* is not OURS=THEIRS)", message)
        if wrong is not None:
            usual = self._option_string_actions[wrong[1]].default
            fix = Option(wrong[1], None if usual is None else str(usual))
        raise UsageError(f"{message}. See distill-eval --help.", fix=fix)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 1 if the evaluation failed; 2 if the request is not valid, which is found before
        torch is imported; 130 if interrupted. Only the result is on stdout.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        _run(given)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was written", _INTERRUPTED)
    except Exception as error:
        if "--debug" in given:
            raise
        fix = getattr(error, "fix", None)
        code = _USAGE if isinstance(error, UsageError) else _FAILED
        return _complain(message_of(error), code, None if fix is None else written(fix, given))
    return 0


def _run(given: Sequence[str]) -> None:
    if "--version" in given:
        from distill_app_evaluator import __version__

        print(f"distill-eval {__version__}")
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
    from distill_app_evaluator.request import check_request

    as_json = arguments.pop("json")
    del arguments["debug"], arguments["version"], arguments["completion"]
    _evaluate(check_request(**arguments), as_json=as_json)


def _evaluate(request: "EvaluationRequest", *, as_json: bool) -> None:
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
    """Print the error on one line, and its fix on another."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    if fix is not None:
        print(f"fix:   {fix}", file=sys.stderr)
    return code


def _parsed(given: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="distill-eval",
        description="Let models answer every row of a file, score the answers, and compare the models.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_arguments(parser)
    known = parser._option_string_actions
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


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from distill_datakit.columns import TASKS

    def add(name: str, metavar: str, text: str, default: object = None, kind: type = str) -> None:
        parser.add_argument(name, metavar=metavar, help=text, default=default, type=kind)

    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="folder of a model, an adapter or an export"
    )
    add("--teacher", "MODEL", "report what share of this model's score the others keep")
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="examples: .jsonl, .csv, .tsv, .parquet, also .jsonl.gz"
    )
    columns = "such as source=word,target=phonemes"
    parser.add_argument("--columns", type=_mapping, metavar="OURS=THEIRS,...", help=columns)
    add("--split", "SPLIT", "all: every row (default); test: the held-out tenth (seed 42)", "all")
    metrics = parser.add_argument(
        "--metrics", type=_names, default=(), metavar="NAME,...", help="such as per,exact_match or rouge,chrf"
    )
    metrics.completer = _metric_names  # type: ignore[attr-defined]  # argcomplete looks for it
    add("--slices", "length|COLUMN", "also score slices: by length, or by the values of a column")
    add("--samples", "N", "show the N worst rows with reference and answers", 0, int)
    add("--out", "DIR", "new folder for the predictions and metrics.json")
    add("--task", "TASK", f"{', '.join(TASKS)}; the default is the task that the configuration names")
    add("--prefix", "TEXT", "text before every input, such as 'translate: '", "")
    add("--max-new-tokens", "N", "the most tokens of an answer (64)", 64, int)
    add("--beams", "N", "beams of the search; 1 (default) is greedy", 1, int)
    add("--batch-size", "N", "rows answered at once (64)", 64, int)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="store_true", help="print the version")
    add("--completion", "SHELL", f"print code that completes the command line: {', '.join(_SHELLS)}")


def _metric_names(prefix: str, **_: object) -> list[str]:
    """Continuations of the last of the names."""
    from distill_metrics.names import METRIC_GROUPS, metric_names

    before = prefix[: prefix.rfind(",") + 1]
    return [before + name for name in (*metric_names(), *METRIC_GROUPS)]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _mapping(text: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in _names(text)]
    wrong = next((ours + sign for ours, sign, theirs in pairs if not (ours and theirs)), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(f"{wrong!r} is not OURS=THEIRS, such as source=word")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
