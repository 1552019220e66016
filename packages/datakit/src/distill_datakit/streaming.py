"""Prepare data that is larger than memory: rows pass through one by one, and the result lies on disk."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack, cast

from distill_datakit.columns import Task
from distill_datakit.encoding import Encoder, TokenizeConfig, TokenizeOptions
from distill_datakit.errors import DataError
from distill_datakit.files import Row
from distill_datakit.hashing import RowsDigest, digest, file_digest
from distill_datakit.loading import OnError, check_on_error, warn_of_dropped
from distill_datakit.parallel import Batch, Columns, encoded
from distill_datakit.reading import CheckedRows, is_hub_name
from distill_datakit.splitting import (
    FRACTIONS,
    NAMES,
    check_fractions,
    part_at,
    place_of,
    refuse_empty,
    refuse_key,
)
from distill_datakit.tokenization import BATCH, Tally, TokenizedData, record_batch, schema_of, shown

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    from transformers import PreTrainedTokenizerBase

    from distill_datakit.reading import Source

_FORMAT = 2  # of the files; another number makes old ones be written again
_MANIFEST = "manifest.json"
# A mapped file costs a few resident pages for each block of rows in it, so blocks are not small.
_BLOCK_BYTES = 16 * 2**20


def tokenize_to_disk(
    source: "Source",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    folder: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "refuse",
    fractions: tuple[float, float, float] | None = FRACTIONS,
    seed: int = 42,
    key: str | None = None,
    workers: int = 1,
    **how: Unpack[TokenizeOptions],
) -> TokenizedData:
    """Load, split and tokenize data in one pass, in memory that does not grow with the data.

    The rows, their parts and the fingerprint are those of ``load_data``, ``split`` and ``tokenize``, but
    ``row_id`` counts rows in the order of the source. A stored result is used again if its files are
    unchanged and the content of the source and every setting are the same, whatever its path and time.

    Args:
        source: Anything that ``load_data`` reads.
        tokenizer: Any transformers tokenizer; ``messages`` need a fast one with a chat template.
        task: ``"causal"``, ``"seq2seq"`` or ``"masked"``.
        folder: The folder of all results; it is made if it is missing.
        columns: A mapping from column names of this package to those of the source.
        on_error: ``"drop"`` leaves wrong rows out and warns with their number.
        fractions: The shares of train, validation and test; None makes one dataset of all rows.
        seed: The seed of the split.
        key: The column by which rows stay together in the split.
        workers: The number of processes; any number gives the same rows.
        how: Limits, prefix, languages and so on, which ``TokenizeOptions`` lists.

    Returns:
        Datasets that are mapped from disk.

    Raises:
        DataError: The data cannot be used, a part would be empty, or no row has a token to learn.
        OptionError, TokenizerError: An option is out of range, or it or the tokenizer suits another task.

    Warns:
        DroppedRowsWarning, SpecialTokensWarning: As ``load_data`` and ``tokenize`` warn.

    Example:
        >>> from distill_datakit import tokenize_to_disk, train_tokenizer
        >>> tokenizer = train_tokenizer(["w 1 2"])
        >>> len(tokenize_to_disk("pairs.jsonl", tokenizer, "seq2seq", "on-disk", fractions=None).data)
        40
    """
    check_on_error(on_error)
    if fractions is not None:
        check_fractions(fractions)
    names = _first_columns(source, columns, on_error)
    encoder = Encoder(tokenizer, TokenizeConfig(task=task, **how), names)
    settings = {"on_error": on_error, "seed": seed, "fractions": fractions, "key": key}
    target = Path(folder) / _name(source, columns, encoder, settings)
    if not _is_whole(target):
        pass_ = _Pass(CheckedRows(source, columns), encoder, on_error, fractions, seed, key)
        _replace(target, pass_, workers)
    return _opened(target)


def _name(
    source: "Source", columns: Mapping[str, str] | None, encoder: Encoder, settings: Mapping[str, object]
) -> str:
    """The folder of a result: another content, setting or format has another one."""
    recipe = {
        "content": _content(source, columns), "columns": dict(columns or {}), **settings,
        "encoder": encoder.fingerprint, "format": _FORMAT}  # fmt: skip
    return digest(recipe)[:16]


class _Pass:
    """One pass over the rows: checked, parted, encoded and written."""

    def __init__(
        self,
        rows: CheckedRows,
        encoder: Encoder,
        on_error: OnError,
        fractions: tuple[float, float, float] | None,
        seed: int,
        key: str | None,
    ) -> None:
        self._rows, self._encoder, self._on_error = rows, encoder, on_error
        self._fractions, self._seed, self._key = fractions, seed, key
        self._digest, self._tally = RowsDigest(), Tally()
        self._placed: list[tuple[list[str], list[int]]] = []  # parts and row numbers of batches in flight
        self._dropped: list[str] = []  # the first alone
        self._counts: Counter[str] = Counter()
        self._next_id = 0

    def write(self, folder: Path, workers: int) -> dict[str, object]:
        """Write ``PART.arrow`` into the folder and return what the manifest holds."""
        import pyarrow as pa

        schema, fractions = schema_of(self._encoder), self._fractions
        names = ["data"] if fractions is None else [n for n, f in zip(NAMES, fractions, strict=True) if f]
        with ExitStack() as stack:
            sinks = {
                name: stack.enter_context(pa.OSFile(str(folder / f"{name}.arrow"), "wb")) for name in names
            }
            writers = {
                name: stack.enter_context(_Blocks(stack.enter_context(pa.ipc.new_stream(sink, schema))))
                for name, sink in sinks.items()
            }
            for columns in shown(self._encoded(workers)):
                parts, ids = self._placed.pop(0)
                for name in names:
                    some = [index for index, part in enumerate(parts) if part == name]
                    if some:
                        kept = {field: [values[n] for n in some] for field, values in columns.items()}
                        writers[name].add(record_batch(kept, [ids[n] for n in some], schema))
        if fractions is not None:
            refuse_empty(fractions, [self._counts[name] for name in NAMES], exact=False)
        self._tally.refuse_nothing_learnt(self._rows.name)
        return {
            "fingerprint": {"data": str(self._digest), **self._encoder.fingerprint},
            "files": {f"{name}.arrow": file_digest(folder / f"{name}.arrow") for name in names},
            "dropped": self._counts["dropped"], "first_dropped": (self._dropped or [""])[0],
            "rows": sum(self._counts.values()), "escaped": self._tally.escaped}  # fmt: skip

    def _encoded(self, workers: int) -> Iterator[Columns]:
        for columns, escaped in encoded(self._encoder, self._batches(), workers=workers):
            self._tally.add(columns)
            self._tally.escaped += escaped
            yield columns

    def _batches(self) -> Iterator[Batch]:
        batch: list[Row] = []
        numbers: list[int] = []
        for number, row in self._rows:
            if isinstance(row, DataError):
                if self._on_error == "refuse":
                    raise row
                self._counts["dropped"] += 1
                self._dropped = self._dropped or [str(row)]
                continue
            batch.append(row)
            numbers.append(number)
            if len(batch) == BATCH:
                yield self._placed_batch(batch, numbers)
                batch, numbers = [], []
        if batch:
            yield self._placed_batch(batch, numbers)

    def _placed_batch(self, batch: list[Row], numbers: list[int]) -> Batch:
        """Note the part and the number of each row, and return the columns that are encoded."""
        parts, ids, read = [], [], (*self._encoder.fields, "row_id")
        for row in batch:
            part = self._part(row)
            ids.append(cast("int", row["row_id"]) if "row_id" in row else self._next_id)
            self._next_id += 1
            self._counts[part] += 1
            self._digest.add("" if self._fractions is None else part, {n: row[n] for n in read if n in row})
            parts.append(part)
        self._placed.append((parts, ids))
        return numbers[0], {name: [row[name] for row in batch] for name in self._encoder.fields}

    def _part(self, row: Row) -> str:
        if self._fractions is None:
            return "data"
        if self._key is not None and self._key not in row:
            refuse_key(self._key, list(row))
        place = place_of(row if self._key is None else row[self._key], self._seed)
        return NAMES[part_at(place, self._fractions)]


class _Blocks:
    """Gathers record batches until they are worth a block of the file."""

    def __init__(self, stream: "pa.RecordBatchStreamWriter") -> None:
        self._stream = stream
        self._batches: list[pa.RecordBatch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()

    def add(self, batch: "pa.RecordBatch") -> None:
        """Keep it, and write what is kept once that is enough."""
        self._batches.append(batch)
        if sum(one.nbytes for one in self._batches) >= _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._batches:
            self._stream.write_table(pa.Table.from_batches(self._batches).combine_chunks())
            self._batches.clear()


def _first_columns(source: "Source", columns: Mapping[str, str] | None, on_error: OnError) -> list[str]:
    checked = CheckedRows(source, columns)
    for _, row in checked:
        if not isinstance(row, DataError):
            return list(row)
        if on_error == "refuse":
            raise row
    raise DataError("holds no usable row.", file=checked.name)


def _content(source: "Source", columns: Mapping[str, str] | None) -> str:
    """SHA-256 of what a source holds, whatever its name and time."""
    if isinstance(source, str | Path) and not is_hub_name(source):
        path = Path(source)
        if path.is_file():
            return file_digest(path)
        return digest([(p.name, file_digest(p)) for p in sorted(path.rglob("*")) if p.is_file()])
    total = RowsDigest()
    for _, row in CheckedRows(source, columns):
        total.add("", {"wrong": str(row)} if isinstance(row, DataError) else row)
    return str(total)


def _replace(target: Path, pass_: _Pass, workers: int) -> None:
    """Write beside the target and put it in its place once whole."""
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        manifest = pass_.write(staged, workers)
        (staged / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        staged.replace(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _is_whole(target: Path) -> bool:
    """Whether a result is there and its files are as they were written."""
    try:
        files = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(file_digest(target / name) == expected for name, expected in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _opened(target: Path) -> TokenizedData:
    from datasets import Dataset, DatasetDict

    manifest = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["dropped"]:
        warn_of_dropped(manifest["first_dropped"], manifest["dropped"], manifest["rows"])
    tally = Tally()
    tally.escaped = manifest["escaped"]
    tally.warn_of_escaped()
    parts = {Path(name).stem: Dataset.from_file(str(target / name)) for name in manifest["files"]}
    data = parts["data"] if list(parts) == ["data"] else DatasetDict(parts)
    return TokenizedData(data, manifest["fingerprint"])
