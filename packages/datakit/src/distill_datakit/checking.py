"""Look at data before anything is trained on it."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

from distill_datakit.columns import IGNORED, Task
from distill_datakit.encoding import Encoder, TokenizeConfig, TokenizeOptions
from distill_datakit.errors import DataError
from distill_datakit.files import Row
from distill_datakit.hashing import canonical
from distill_datakit.masking import Corrupter, Masker
from distill_datakit.parallel import Columns
from distill_datakit.reading import CheckedRows
from distill_datakit.report import DataReport, Leak, Lengths, PartReport, Problem, Segments
from distill_datakit.special_tokens import SpecialTokens

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerBase

    from distill_datakit.reading import Source

_BATCH = 500


def check_data(
    data: "Source | Mapping[str, Source] | DatasetDict",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    *,
    columns: Mapping[str, str] | None = None,
    examples: int = 3,
    **how: Unpack[TokenizeOptions],
) -> DataReport:
    """Report what is in the data, what is wrong with it, and what would be learnt from it.

    Rows that ``load_data`` would refuse are counted and named, not raised. Memory holds only a hash and the
    lengths of each row.

    Args:
        data: Anything that ``load_data`` reads, or several of these by name, such as ``{"train": "a.jsonl",
            "test": "b.jsonl"}`` or the result of ``split``. Of several, the leakage between them is
            measured.
        tokenizer: The tokenizer of the model.
        task: ``"causal"``, ``"seq2seq"`` or ``"masked"``.
        columns: A mapping from column names of this package to those of the file.
        examples: The number of problems of each kind that are named in each part, and of rows that are
            previewed.
        how: Limits, prefix and so on, which ``TokenizeOptions`` lists.

    Returns:
        The report: ``render()`` writes it for reading, ``to_dict()`` gives plain values.

    Raises:
        DataError: A file cannot be read at all, or its columns do not suit the task.
        OptionError: An option is out of range or belongs to another task.
        TokenizerError: The tokenizer does not suit the task.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import check_data
        >>> rows = [{"source": "w1 w2", "target": "w2 w1"}, {"source": "w3", "target": "zebra"}]
        >>> report = check_data(rows, AutoTokenizer.from_pretrained("translator"), "seq2seq")
        >>> report.ok, report.parts[0].rows, report.parts[0].unknown
        (True, 2, {'zebra': 1})
        >>> print(report.problems[0])
        data, row 2, field 'target': 'zebra' is outside the tokenizer's vocabulary
    """
    settings = TokenizeConfig(task=task, **how)
    parts = data if isinstance(data, Mapping) else {_name(data): data}
    looked: list[_Part] = []
    for name, source in parts.items():
        on_disk = isinstance(source, str | Path)
        rows = CheckedRows(source, columns, name=None if on_disk else name)
        looked.append(_Part(name, rows, tokenizer, settings, examples, previews=0 if looked else examples))
    leaks = _leaks(looked)
    return DataReport(
        task=task,
        parts=tuple(part.report() for part in looked),
        leaks=leaks,
        problems=tuple(problem for part in looked for problem in part.problems),
        previews=tuple(looked[0].previews) if looked else (),
    )


def _leaks(looked: "list[_Part]") -> tuple[Leak, ...]:
    """Those of each part into the earlier ones, whose first rows are noted."""
    leaks = []
    for index, second in enumerate(looked):
        for first in looked[:index]:
            count = sum(places.total for key, places in second.inputs.items() if key in first.inputs)
            if count:
                leaks.append(
                    Leak(first=first.name, second=second.name, rows=count, share=count / second.rows)
                )
                second.name_leaks(first)
    return tuple(leaks)


def _name(source: "Source") -> str:
    return Path(source).name if isinstance(source, str | Path) else "data"


class _Places:
    """How many rows share something, and the first of them."""

    __slots__ = ("first", "total")

    def __init__(self, first: int) -> None:
        self.first, self.total = first, 0


class _Part:
    """Counts what one file or split holds."""

    def __init__(
        self,
        name: str,
        rows: CheckedRows,
        tokenizer: "PreTrainedTokenizerBase",
        settings: TokenizeConfig,
        examples: int,
        *,
        previews: int,
    ) -> None:
        self.name, self._file = name, rows.name
        self._tokenizer, self._settings, self._examples = tokenizer, settings, examples
        self._specials = SpecialTokens(tokenizer)
        # Byte-level tokenizers call their end token the unknown one too, and know every character.
        unknown, known = tokenizer.unk_token_id, (tokenizer.eos_token_id, tokenizer.pad_token_id)
        self._unknown_id = None if unknown in known else unknown
        self._encoders: tuple[Encoder, Encoder] | None = None
        self._seen: dict[bytes, int] = {}
        self._lengths: dict[str, array[int]] = {}
        self.rows = 0
        self.columns: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self.inputs: dict[bytes, _Places] = {}
        self._unknown: Counter[str] = Counter()
        self._special: Counter[str] = Counter()
        self._unknown_characters: dict[str, bool] = {}
        self.previews: list[Segments] = []
        for batch in self._batches(rows):
            self._add(batch, previews)

    def report(self) -> PartReport:
        """What was counted."""
        limits = {
            "input": self._settings.max_source_length,
            "output": self._settings.max_target_length,
            "row": self._settings.max_source_length,
        }
        return PartReport(
            name=self.name,
            columns=tuple(self.columns),
            rows=self.rows,
            counts=dict(self.counts),
            lengths=tuple(_summary(side, lengths, limits[side]) for side, lengths in self._lengths.items()),
            unknown=dict(self._unknown.most_common(50)),
            special=dict(self._special.most_common()),
        )

    def name_leaks(self, first: "_Part") -> None:
        """Note the first rows that are also in an earlier part."""
        for key, places in self.inputs.items():
            if key in first.inputs:
                message = f"its input is also in {first.name}, row {first.inputs[key].first}"
                self._note("leak", message, places.first)

    def _note(self, kind: str, message: str, row: int | None, field: str | None = None) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= self._examples:
            self.problems.append(Problem(kind=kind, message=message, file=self._file, row=row, field=field))

    def _batches(self, rows: CheckedRows) -> Iterator[list[tuple[int, Row]]]:
        batch: list[tuple[int, Row]] = []
        for number, row in rows:
            if isinstance(row, DataError):
                self._note("wrong", row.message, row.row, row.field)
                continue
            batch.append((number, row))
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _add(self, batch: list[tuple[int, Row]], previews: int) -> None:
        whole, limited = self._encoders or self._make_encoders(batch[0][1])
        batch = self._renderable(batch, whole)
        if not batch:
            return
        columns = _columns(batch, whole)
        full = whole(columns)[0]
        kept = full if limited is whole else limited(columns)[0]
        for index, (number, row) in enumerate(batch):
            self.rows += 1
            self.columns.update(dict.fromkeys(row))
            self._look_at_row(number, row, whole.fields)
            if any(self._unknown_id in full[name][index] for name in ("input_ids", "labels") if name in full):
                self._look_at_unknown(number, row, whole.fields)
            if "labels" in kept and all(label == IGNORED for label in kept["labels"][index]):
                self._note("unlearnt", "no token to learn is left within the limits", number)
            if len(self.previews) < previews:
                self.previews.append(self._preview(kept, index))
        self._measure(full)

    def _make_encoders(self, row: Row) -> tuple[Encoder, Encoder]:
        from dataclasses import replace

        limited = Encoder(self._tokenizer, self._settings, list(row))
        settings = self._settings
        if settings.max_source_length is None and settings.max_target_length is None:
            self._encoders = (limited, limited)
        else:
            free = replace(settings, max_source_length=None, max_target_length=None)
            self._encoders = (Encoder(self._tokenizer, free, list(row)), limited)
        return self._encoders

    def _renderable(self, batch: list[tuple[int, Row]], encoder: Encoder) -> list[tuple[int, Row]]:
        """Without the conversations that the chat template refuses, which are noted."""
        if encoder.fields != ("messages",):
            return batch
        good = []
        for number, row in batch:
            try:
                encoder({"messages": [row["messages"]]}, number)
            except DataError as error:
                self._note("wrong", error.message, number, "messages")
            else:
                good.append((number, row))
        return good

    def _look_at_row(self, number: int, row: Row, fields: tuple[str, ...]) -> None:
        """Empty and equal rows, special tokens, and the hash by which leaks are found."""
        first = self._seen.setdefault(_hash(canonical(row)), number)
        if first != number:
            self._note("duplicate", f"the same as row {first}", number)
        self.inputs.setdefault(_hash(_input(row[fields[0]])), _Places(number)).total += 1
        for field in fields:
            texts = _texts(row[field])
            if not any(text.strip() for text in texts):
                self._note("empty", "the text is empty or blank", number, field)
            found = [token for text in texts for token in self._specials.found(text)]
            self._special.update(found)
            if found:
                kept = "is read as text" if self._settings.escape_special_tokens else "becomes the token"
                self._note("special", f"{found[0]!r}, a special token, {kept}", number, field)

    def _look_at_unknown(self, number: int, row: Row, fields: tuple[str, ...]) -> None:
        for field in fields:
            found = [piece for text in _texts(row[field]) for piece in self._unknown_in(text)]
            self._unknown.update(found)
            if found:
                self._note("unknown", f"{found[0]!r} is outside the tokenizer's vocabulary", number, field)

    def _unknown_in(self, text: str) -> Iterator[str]:
        """The pieces or, where single ones are at fault, the characters that become the unknown token."""
        tokenizer = self._tokenizer
        pieces = [text]
        if tokenizer.is_fast:
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            both = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            pieces = [text[first:last] for token, (first, last) in both if token == tokenizer.unk_token_id]
        for piece in pieces:
            characters = [character for character in piece if self._is_unknown(character)]
            yield from [piece] if tokenizer.is_fast and len(characters) in (0, len(piece)) else characters

    def _is_unknown(self, character: str) -> bool:
        if character not in self._unknown_characters:
            ids = self._tokenizer(character, add_special_tokens=False, verbose=False)["input_ids"]
            self._unknown_characters[character] = self._tokenizer.unk_token_id in cast("list[int]", ids)
        return self._unknown_characters[character]

    def _measure(self, full: Columns) -> None:
        assert self._encoders is not None  # noqa: S101 - rows were encoded
        joined = self._settings.task == "causal"
        pair = len(self._encoders[0].fields) == 2
        for index, ids in enumerate(full["input_ids"]):
            if pair:
                labels = full["labels"][index]
                learnt = sum(label != IGNORED for label in labels) if joined else len(labels)
                sides = {"input": len(ids) - learnt if joined else len(ids), "output": learnt}
            else:
                sides = {"row": len(ids)}
            for side, count in sides.items():
                self._lengths.setdefault(side, array("I")).append(count)

    def _preview(self, kept: Columns, index: int) -> Segments:
        """The row as text, in pieces that are learnt and pieces that are not."""
        import numpy as np

        ids = kept["input_ids"][index]
        labels = kept["labels"][index] if "labels" in kept else None
        settings = self._settings
        if labels is None:
            noise = (
                Masker(self._tokenizer, "token", seed=42, probability=0.15)
                if settings.task == "masked"
                else Corrupter(self._tokenizer, seed=42, probability=0.15, span_length=3.0)
            )
            fed, hidden = noise(np.array(ids), None, row_id=self.rows - 1, epoch=0)
            ids, labels = fed.tolist(), hidden.tolist()
        if settings.task == "seq2seq":
            learnt = [label for label in labels if label != IGNORED]
            return ((self._decoded(ids) + " → ", False), (self._decoded(learnt), True))
        runs: list[tuple[list[int], bool]] = []
        for token, label in zip(ids, labels, strict=True):
            if not runs or runs[-1][1] != (label != IGNORED):
                runs.append(([], label != IGNORED))
            runs[-1][0].append(token if label == IGNORED else label)
        return tuple((self._decoded(run), learnt) for run, learnt in runs)

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))


def _columns(batch: list[tuple[int, Row]], encoder: Encoder) -> dict[str, list[object]]:
    return {name: [row[name] for _, row in batch] for name in encoder.fields}


def _hash(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:12]


def _texts(value: object) -> list[str]:
    """The texts of a field: itself, or the contents of messages."""
    if isinstance(value, str):
        return [value]
    return [message["content"] for message in cast("list[dict[str, str]]", value)]


def _input(value: object) -> bytes:
    """What a model is given, but for case and blanks: a text, or messages without the last answer."""
    texts = _texts(value)
    if not isinstance(value, str) and cast("list[dict[str, str]]", value)[-1]["role"] == "assistant":
        texts = texts[:-1]
    return "\0".join(" ".join(text.casefold().split()) for text in texts).encode()


def _summary(side: str, lengths: "array[int]", limit: int | None) -> Lengths:
    import numpy as np

    values = np.sort(np.asarray(lengths, dtype=np.int64))
    histogram, _ = np.histogram(values, bins=8, range=(0, max(int(values[-1]), 1)))
    longest = int(values[-1])
    over = np.maximum(values - limit, 0) if limit is not None else np.zeros(1)
    middle, late = (int(values[int(share * (len(values) - 1))]) for share in (0.5, 0.95))
    return Lengths(
        side=side, shortest=int(values[0]), median=middle, percentile_95=late, longest=longest,
        histogram=tuple(histogram.tolist()), limit=limit, rows_cut=float((over > 0).mean()),
        tokens_cut=float(over.sum() / max(int(values.sum()), 1)))  # fmt: skip
