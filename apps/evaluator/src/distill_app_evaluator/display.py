"""The result as text: tables, sentences and the worst rows."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distill_app_evaluator.evaluation import Evaluation
from distill_metrics import Comparison, MetricResult

_WIDTH = 100
_MOST_CHARACTERS = 500


def text_of(done: Evaluation) -> str:
    """Everything that was found out, for people."""
    blocks = [_drawn(_scores(done))]
    if len(done.answers) > 1:
        blocks.append(_drawn(_systems(done)))
        blocks.append("\n".join(one.statement() for one in done.measured.whole.comparisons))
        blocks.append(_family(done))
    if done.measured.parts:
        blocks.append(_drawn(_parts(done)))
        blocks.append(_differences(done))
    if done.measured.samples:
        blocks.append(_samples(done))
    return "\n\n".join(block for block in blocks if block)


def _scores(done: Evaluation) -> Table:
    rows = done.request.rows
    models = "" if len(done.answers) > 1 else f"{done.request.systems[0].path} on "
    table = Table(title=escape(f"{models}{rows.path} ({len(done.examples.inputs)} examples, {rows.split})"))
    for name in ("metric", "system"):
        table.add_column(name)
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right")
    teacher = done.request.teacher
    if teacher is not None:
        table.add_column(f"kept of {escape(teacher.name)}", justify="right")
    for metric in done.metrics:
        for name, scores in done.measured.whole.scores.items():
            cells = [metric, escape(name), f"{scores[metric].value:.2f} %", _bounds(scores[metric])]
            if teacher is not None:
                kept = done.measured.retention.get(name, {}).get(metric)
                cells.append("" if kept is None else f"{kept.value:.1f} % {_within(kept)}".rstrip())
            table.add_row(*cells)
        table.add_section()
    return table


def _systems(done: Evaluation) -> Table:
    table = Table()
    for name in ("system", "is", "task"):
        table.add_column(name)
    for name in ("weights, MB", "ms an example"):
        table.add_column(name, justify="right")
    for system in done.request.systems:
        kind = system.kind if system.role == "model" else f"{system.kind}, the teacher"
        spent = 1000 * done.answers[system.name].seconds / len(done.examples.inputs)
        table.add_row(escape(system.name), kind, system.task, f"{system.bytes / 1e6:.2f}", f"{spent:.1f}")
    return table


def _family(done: Evaluation) -> str:
    pairs = len(done.measured.whole.comparisons) // len(done.metrics)
    return f"p is adjusted for the {pairs} pairs of systems (Holm), metric by metric." if pairs > 1 else ""


def _parts(done: Evaluation) -> Table:
    table = Table(title=escape(f"Parts by {done.request.rows.slices}"))
    for name in ("metric", "part"):
        table.add_column(name)
    for name in ("rows", *map(escape, done.answers)):
        table.add_column(name, justify="right")
    for metric in done.metrics:
        for label, part in done.measured.parts.items():
            found = [scores.get(metric) for scores in part.scores.values()]
            cells = ["undefined" if one is None else f"{one.value:.2f} %" for one in found]
            table.add_row(metric, escape(printable(label)), str(part.n), *cells)
        table.add_section()
    return table


def _differences(done: Evaluation) -> str:
    """Which comparisons in the parts show a difference."""
    found: list[tuple[str, Comparison]] = [
        (label, one) for label, part in done.measured.parts.items() for one in part.comparisons
    ]
    if not found:
        return ""
    shown = [f"In the part {printable(label)!r}: {one.statement()}" for label, one in found if one.better]
    rest = len(found) - len(shown)
    if rest:
        other = "other " if shown else ""
        shown.append(f"No difference shown in {rest} {other}comparison{'s' * (rest > 1)} of parts.")
    return "\n".join(shown)


def _samples(done: Evaluation) -> str:
    samples, metric = done.measured.samples, done.measured.ranked_by
    first = next(iter(done.answers))
    lines = [f"The {len(samples)} worst of {first} by {metric}:"]
    wide = max(map(len, ("reference", *done.answers)))
    for sample in samples:
        rights = [sample.reference] if isinstance(sample.reference, str) else sample.reference
        lines += ["", f"  row {sample.id}", _line("input", sample.input, wide)]
        lines += [_line("reference", right, wide) for right in rights]
        lines += [
            f"{_line(name, text, wide)}   ({sample.values[name]:.2f} %)"
            for name, text in sample.answers.items()
        ]
    return "\n".join(lines)


def _line(name: str, text: str, wide: int) -> str:
    cut = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
    return f"    {name:<{wide}}  {printable(cut)}"


def printable(text: str) -> str:
    """The text on one line; what a terminal would obey is spelt out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _bounds(result: MetricResult) -> str:
    return "" if result.interval is None else "{:.2f} to {:.2f}".format(*result.interval)


def _within(result: MetricResult) -> str:
    return "" if result.interval is None else "({:.1f} to {:.1f})".format(*result.interval)


def _drawn(table: Table) -> str:
    console = Console(width=_WIDTH)
    with console.capture() as captured:
        console.print(table)
    return _stripped(captured.get().splitlines())


def _stripped(lines: Iterable[str]) -> str:
    return "\n".join(line.rstrip() for line in lines).strip("\n")
