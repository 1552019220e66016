"""The results as text: tables, sentences and the worst rows."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distill_app_evaluator.evaluation import Evaluation
from distill_metrics import MetricResult

_WIDTH = 100
_MOST_CHARACTERS = 500
_SUFFIXES = {"percent": " %", "nats": " nats"}


def text_of(done: Evaluation) -> str:
    """Write all results for people."""
    measured = done.measured
    blocks = [_drawn(_scores(done))]
    if len(done.answers) > 1:
        pairs = len(measured.comparisons) // len(done.metrics)
        adjusted = f"p is adjusted for the {pairs} pairs of systems (Holm), metric by metric."
        statements = "\n".join(one.statement() for one in measured.comparisons)
        blocks += [_drawn(_systems(done)), statements, adjusted if pairs > 1 else ""]
    if measured.slices:
        blocks += [_drawn(_slices(done)), _differences(done)]
    if done.worst_rows:
        blocks.append(_samples(done))
    return "\n\n".join(block for block in blocks if block)


def _table(title: str | None, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=None if title is None else escape(title))
    for name in left:
        table.add_column(escape(name))
    for name in right:
        table.add_column(escape(name), justify="right")
    return table


def _scores(done: Evaluation) -> Table:
    rows, teacher = done.request.rows, done.request.teacher
    models = "" if len(done.answers) > 1 else f"{done.request.systems[0].path} on "
    kept = () if teacher is None else (f"kept of {teacher.name}",)
    title = f"{models}{rows.path} ({done.measured.n} examples, {rows.split})"
    table = _table(title, ("metric", "system"), ("value", "95 % interval", *kept))
    for metric in done.metrics:
        for name, scores in done.measured.scores.items():
            cells = [metric, escape(name), _value(scores[metric]), _bounds(scores[metric])]
            if teacher is not None:
                share = done.measured.retention.get(name, {}).get(metric)
                bounds = "" if share is None or share.interval is None else f" ({_bounds(share, digits=1)})"
                cells.append("" if share is None else f"{share.value:.1f} %{bounds}")
            table.add_row(*cells)
        table.add_section()
    return table


def _systems(done: Evaluation) -> Table:
    table = _table(None, ("system", "kind", "task"), ("weights, MB", "ms per example"))
    for system in done.request.systems:
        kind = system.kind if system.role == "model" else f"{system.kind}, the teacher"
        spent = 1000 * done.answers[system.name].seconds / done.measured.n
        table.add_row(escape(system.name), kind, system.task, f"{system.bytes / 1e6:.2f}", f"{spent:.1f}")
    return table


def _slices(done: Evaluation) -> Table:
    title = f"Slices by {done.request.rows.slices}"
    table = _table(title, ("metric", "slice"), ("rows", *done.answers))
    for metric in done.metrics:
        for label, part in done.measured.slices.items():
            found = [scores.get(metric) for scores in part.scores.values()]
            cells = ["undefined" if one is None else _value(one) for one in found]
            table.add_row(metric, escape(printable(label)), str(part.n), *cells)
        table.add_section()
    return table


def _differences(done: Evaluation) -> str:
    """The comparisons on slices that show a difference."""
    found = [(label, one) for label, part in done.measured.slices.items() for one in part.comparisons]
    shown = [f"In the slice {printable(label)!r}: {one.statement()}" for label, one in found if one.better]
    rest = len(found) - len(shown)
    if rest:
        other = "other " if shown else ""
        shown.append(f"No difference shown in {rest} {other}comparison{'s' * (rest > 1)} of slices.")
    return "\n".join(shown)


def _samples(done: Evaluation) -> str:
    metric, rows = str(done.measured.ranked_by), done.worst_rows
    lines = [f"The {len(rows)} worst of {next(iter(done.answers))} by {metric}:"]
    wide = max(map(len, ("reference", *done.answers)))
    for row in rows:
        reference = done.examples.references[row]
        rights = [reference] if isinstance(reference, str) else reference
        lines += ["", f"  row {row}", _line("input", done.examples.inputs[row], wide)]
        lines += [_line("reference", right, wide) for right in rights]
        for name, said in done.answers.items():
            suffix = _SUFFIXES.get(done.measured.scores[name][metric].unit, "")
            value = f"{done.values(name, row)[metric]:.2f}{suffix}"
            lines.append(f"{_line(name, said.texts[row], wide)}   ({value})")
    return "\n".join(lines)


def _line(name: str, text: str, wide: int) -> str:
    cut = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
    return f"    {name:<{wide}}  {printable(cut)}"


def printable(text: str) -> str:
    """Return the text on one line, with control characters spelt out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _value(result: MetricResult) -> str:
    return f"{result.value:.2f}{_SUFFIXES.get(result.unit, '')}"


def _bounds(result: MetricResult, digits: int = 2) -> str:
    return "" if result.interval is None else " to ".join(f"{bound:.{digits}f}" for bound in result.interval)


def _drawn(table: Table) -> str:
    console = Console(width=_WIDTH)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")
