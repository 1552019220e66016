"""What was found in the data, as values, as a dictionary and for reading."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill_datakit.columns import TEXT_INPUTS, inputs_of
from distill_datakit.hashing import file_digest

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.console import RenderableType

Segments = tuple[tuple[str, bool], ...]
KINDS = ("wrong", "empty", "duplicate", "leak", "special", "unknown", "unlearnt")
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something to look at, and where it stands.

    Attributes:
        kind: ``wrong`` (refused by ``load_data``), ``empty``, ``duplicate``, ``leak``, ``special``,
            ``unknown`` or ``unlearnt``.
        message: What was found.
        file: The file or split that has the row.
        row: The number of the row, counted from 1.
        field: The column, if a single one is at fault.
    """

    kind: str
    message: str
    file: str
    row: int | None
    field: str | None

    def __str__(self) -> str:
        """The place, then the message."""
        place = [self.file, *([f"row {self.row}"] if self.row else [])]
        place += [f"field {self.field!r}"] if self.field else []
        return f"{', '.join(place)}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of one side of the rows, before anything is cut.

    Attributes:
        side: ``input``, ``output``, or ``row`` if both are one sequence.
        shortest: The tokens of the shortest row.
        median: The tokens of the row in the middle.
        percentile_95: The number of tokens that 95 % of the rows do not exceed.
        longest: The tokens of the longest row.
        histogram: The number of rows in each of eight equal ranges from 0 to the longest.
        limit: The number of tokens that are kept, or None.
        rows_cut: The share of the rows that the limit shortens, 0 to 1.
        tokens_cut: The share of all tokens that the limit removes, 0 to 1.
    """

    side: str
    shortest: int
    median: int
    percentile_95: int
    longest: int
    histogram: tuple[int, ...]
    limit: int | None
    rows_cut: float
    tokens_cut: float

    def __str__(self) -> str:
        """One line."""
        most = max(self.histogram)
        bars = "".join(_BARS[-(-7 * count // most)] if count else " " for count in self.histogram)
        limit = "no limit"
        if self.limit is not None:
            limit = f"limit {self.limit:,} cuts {self.rows_cut:.1%} of rows, {self.tokens_cut:.1%} of tokens"
        return (
            f"{self.side}: {self.shortest:,} to {self.longest:,} tokens, median {self.median:,}, "
            f"95 % at most {self.percentile_95:,} |{bars}| {limit}"
        )


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """One file or split.

    Attributes:
        name: The name of the split or file.
        columns: The columns, by the names of this package.
        rows: The number of rows that can be used.
        counts: The number of rows that have each kind of problem.
        lengths: The lengths of input and output, or of whole rows, in tokens.
        unknown: The fifty most frequent pieces outside the tokenizer's vocabulary, with their counts.
        special: The special tokens that are written in texts, with their counts.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    counts: Mapping[str, int]
    lengths: tuple[Lengths, ...]
    unknown: Mapping[str, int]
    special: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Rows of a later part whose input, apart from case and blanks, is also in an earlier part.

    Attributes:
        first: The name of the earlier part.
        second: The name of the later part.
        rows: The number of rows of the later part that leaked.
        share: Their share of all rows of the later part, 0 to 1.
    """

    first: str
    second: str
    rows: int
    share: float


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What ``check_data`` found.

    Attributes:
        task: The task for which the data was checked.
        parts: One report for each file or split, in their order.
        leaks: The leaks between the parts.
        problems: The first few problems of each kind; ``counts`` of the parts has the number of all.
        previews: Rows as the model gets them: pieces of text, and whether each piece is learnt.
    """

    task: str
    parts: tuple[PartReport, ...]
    leaks: tuple[Leak, ...]
    problems: tuple[Problem, ...]
    previews: tuple[Segments, ...]

    @property
    def ok(self) -> bool:
        """Whether every part has rows, none is refused, none has leaked, and all have something to learn."""
        usable = all(
            part.rows and not part.counts.get("wrong") and part.counts.get("unlearnt", 0) < part.rows
            for part in self.parts
        )
        return usable and not self.leaks

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON; ``ok`` included."""
        return {**asdict(self), "ok": self.ok}

    def render(self, *, colour: bool = False, width: int = 100) -> str:
        """The report for reading.

        Args:
            colour: Whether to use ANSI colours, as on a terminal. What is learnt is then green; otherwise it
                stands between » and «.
            width: The number of characters on a line.
        """
        import io

        from rich.console import Console

        console = Console(
            file=io.StringIO(), width=width, highlight=False, force_terminal=colour, no_color=not colour,
            color_system="standard" if colour else None, legacy_windows=False)  # fmt: skip
        for piece in self._pieces(colour=colour):
            console.print(piece)
        written = console.file
        assert isinstance(written, io.StringIO)  # noqa: S101 - as given above
        return written.getvalue()

    def _pieces(self, *, colour: bool) -> "list[RenderableType]":
        from rich.padding import Padding
        from rich.text import Text

        pieces: list[RenderableType] = [_table(self)]
        for part in self.parts:
            pieces += [Text(f"{part.name}, {length}") for length in part.lengths]
            for words, found in (("outside the vocabulary", part.unknown), ("special tokens", part.special)):
                if found:
                    listed = ", ".join(f"{text!r} {count:,}x" for text, count in list(found.items())[:8])
                    pieces.append(Text(f"{part.name}, {words}: {listed}"))
        for leak in self.leaks:
            found_in = f"{leak.rows:,} rows ({leak.share:.1%}) of {leak.second} are also in {leak.first}"
            pieces.append(Text(f"leak: {found_in}", style="bold red"))
        if self.problems:
            pieces.append(Text("Look at", style="bold"))
            pieces += [Padding.indent(Text(f"{problem.kind}: {problem}"), 2) for problem in self.problems]
        if self.previews:
            legend = "green is learnt" if colour else "what stands in »« is learnt"
            pieces.append(Text(f"As the model gets it ({legend})", style="bold"))
        for segments in self.previews:
            shown = Text()
            for text, learnt in segments:
                shown.append(text if colour or not learnt else f"»{text}«", "green" if learnt else "dim")
            pieces.append(Padding.indent(shown, 2))
        return pieces


def _table(report: DataReport) -> "RenderableType":
    from rich.table import Table

    kinds = [kind for kind in KINDS if any(part.counts.get(kind) for part in report.parts)]
    table = Table(box=None, pad_edge=False)
    for name in ("part", "columns"):
        table.add_column(name, overflow="fold")
    for name in ("rows", *kinds):
        table.add_column(name, justify="right")
    for part in report.parts:
        counts = [f"{part.counts.get(kind, 0):,}" for kind in kinds]
        table.add_row(part.name, ", ".join(part.columns), f"{part.rows:,}", *counts)
    return table


def dataset_statistics(
    texts: "Mapping[str, Dataset]", paths: Mapping[str, Path] | None = None
) -> dict[str, dict[str, object]]:
    """Describe each dataset by its size, the lengths and repetitions of its inputs, and the hash of its file.

    Args:
        texts: Datasets of raw rows by name.
        paths: The files of those that come from one file.

    Returns:
        For each name ``rows``. Where the inputs are texts also ``repeated`` (rows whose input an earlier
        row has), ``characters_median`` and ``characters_most``. Where there is a dataset ``train``, for each
        other one ``also_in_train`` (rows whose input stands in ``train``). For files ``sha256``.

    Example:
        >>> from distill_datakit import dataset_statistics, load_data
        >>> parts = {"train": load_data([{"text": "a"}, {"text": "a"}]), "test": load_data([{"text": "a"}])}
        >>> dataset_statistics(parts)["test"]
        {'rows': 1, 'repeated': 0, 'characters_median': 1, 'characters_most': 1, 'also_in_train': 1}
    """
    paths = paths or {}
    inputs = {name: _text_inputs(part) for name, part in texts.items()}
    learnt = set(inputs.get("train", ()))
    found: dict[str, dict[str, object]] = {}
    for name, mine in inputs.items():
        facts: dict[str, object] = {"rows": len(texts[name])}
        if mine:
            lengths = sorted(map(len, mine))
            facts |= {
                "repeated": len(mine) - len(set(mine)),
                "characters_median": lengths[len(lengths) // 2],
                "characters_most": lengths[-1],
            }
        if mine and name != "train" and learnt:
            facts["also_in_train"] = sum(text in learnt for text in mine)
        if name in paths and paths[name].is_file():
            facts["sha256"] = file_digest(paths[name])
        found[name] = facts
    return found


def _text_inputs(part: "Dataset") -> list[str]:
    """No text where the inputs are chats, or where there is no input at all."""
    names = part.column_names
    return inputs_of(part) if "messages" not in names and not set(TEXT_INPUTS).isdisjoint(names) else []
