"""Raw text to ids and labels, right for each of the three tasks."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from distill_datakit.columns import IGNORED, Task
from distill_datakit.encoding import Encoder, TokenizeConfig, TokenizeOptions
from distill_datakit.errors import DataError, SpecialTokensWarning
from distill_datakit.hashing import data_digest
from distill_datakit.parallel import Batch, Columns, encoded

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase

BATCH = 1000  # rows that are encoded at a time


@dataclass(frozen=True)
class TokenizedData:
    """Tokenized rows and what they were made from.

    Attributes:
        data: Rows of ``input_ids``, ``attention_mask``, ``labels`` (unless the collator makes them) and
            ``row_id``; for masked models with fast tokenizers also ``word_ids`` (-1 for special tokens).
        fingerprint: A SHA-256 hash for each of ``data``, ``preprocessing``, ``tokenizer``, ``template`` and
            ``masking``.
    """

    data: "Dataset | DatasetDict"
    fingerprint: Mapping[str, str]


def tokenize(
    data: "Dataset | DatasetDict",
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    *,
    workers: int = 1,
    **how: Unpack[TokenizeOptions],
) -> TokenizedData:
    """Turn raw text rows into ids, attention mask and labels.

    - ``seq2seq``: ``source`` (or ``prompt``) is the input, ``target`` (or ``completion``) the labels.
    - ``causal``: ``messages`` (what the assistant says is learnt), ``prompt``/``completion`` or
      ``source``/``target`` (the second is learnt), or ``text`` (all is learnt). Labels stand at their own
      positions: models shift them. The two parts of a row are encoded apart and joined.
    - ``masked``: ``text`` (or ``target``); no labels, since the collator masks again each epoch.

    The end token is added to causal rows and seq2seq labels if the tokenizer does not add it, and it is
    learnt, also when it is the padding token. A causal row that a limit cuts has no end to learn; seq2seq and
    masked rows keep their closing tokens.

    Args:
        data: Raw rows, as ``load_data`` or ``split`` give them. Columns that are not read are dropped.
        tokenizer: Any transformers tokenizer; ``messages`` need a fast one with a chat template.
        task: ``"causal"``, ``"seq2seq"`` or ``"masked"``.
        workers: The number of processes; any number gives the same rows.
        how: Limits, prefix, languages and so on, which ``TokenizeOptions`` lists.

    Returns:
        Rows with an integer ``row_id``: the row's own where the data has that column, else numbered
        through all splits in order.

    Raises:
        DataError: The columns do not suit the task, a conversation cannot be rendered, or no row has a
            token to learn.
        OptionError: An unknown task, a limit or number of workers below 1, or an option for another task.
        TokenizerError: An end token, chat template or language is needed and missing, or unknown.

    Warns:
        SpecialTokensWarning: Special tokens were written in texts and were escaped.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import load_data, tokenize
        >>> rows = load_data([{"prompt": "w1 w2", "completion": "w3"}])
        >>> tokenized = tokenize(rows, AutoTokenizer.from_pretrained("writer"), "causal")
        >>> tokenized.data[0]["input_ids"], tokenized.data[0]["labels"]
        ([6, 7, 8, 1], [-100, -100, 8, 1])
    """
    from datasets import DatasetDict

    parts: Mapping[str, Dataset] = data if isinstance(data, DatasetDict) else {"data": data}
    encoder = Encoder(tokenizer, TokenizeConfig(task=task, **how), next(iter(parts.values())).column_names)
    tally = Tally()
    done = _tokenized_parts(parts, encoder, workers, tally)
    tally.warn_of_escaped()
    columns = (*encoder.fields, "row_id")
    return TokenizedData(
        DatasetDict(done) if isinstance(data, DatasetDict) else done["data"],
        {"data": data_digest(data, columns=columns), **encoder.fingerprint},
    )


def truncated_fraction(
    data: "Dataset", tokenizer: "PreTrainedTokenizerBase", task: Task, **how: Unpack[TokenizeOptions]
) -> float:
    """Measure the share of the rows that the limits of ``tokenize`` shorten.

    Args:
        data: Raw rows.
        tokenizer: Any transformers tokenizer.
        task: ``"causal"``, ``"seq2seq"`` or ``"masked"``.
        how: Limits and so on, which ``TokenizeOptions`` lists.

    Returns:
        A number from 0 to 1; 0 without limits.

    Raises:
        DataError: The columns do not suit the task, or no row has a token to learn.
        OptionError: A limit is below 1, or an option belongs to another task.
        TokenizerError: The tokenizer does not suit the task.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import load_data, truncated_fraction
        >>> rows = load_data([{"text": "w1 w2 w3 w4"}, {"text": "w1"}])
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> truncated_fraction(rows, tokenizer, "causal", max_source_length=3)
        0.5
    """
    limits = ("max_source_length", "max_target_length")
    if not len(data) or all(how.get(limit) is None for limit in limits):
        return 0.0
    free: TokenizeOptions = {**how, "max_source_length": None, "max_target_length": None}
    kept, whole = (tokenize(data, tokenizer, task, **one).data for one in (how, free))
    cut = [
        any(len(short[name]) < len(full[name]) for name in ("input_ids", "labels") if name in full)
        for short, full in zip(kept, whole, strict=True)
    ]
    return sum(cut) / len(cut)


class Tally:
    """Counts rows, and those with something to learn, while batches pass."""

    def __init__(self) -> None:
        self.rows = self.learnt = self.escaped = 0

    def add(self, columns: Columns) -> None:
        """Count a batch."""
        count = len(columns["input_ids"])
        self.rows += count
        labels = columns.get("labels")
        self.learnt += count if labels is None else sum(any(n != IGNORED for n in row) for row in labels)

    def refuse_nothing_learnt(self, part: str) -> None:
        """Raise ``DataError`` if no row counted since the last call has a token to learn."""
        rows, learnt, self.rows, self.learnt = self.rows, self.learnt, 0, 0
        if rows and not learnt:
            raise DataError(
                f"{part}: none of {rows} rows has a token to learn. Raise the limits or check the texts."
            )

    def warn_of_escaped(self) -> None:
        """Say how many texts held special tokens."""
        if self.escaped:
            warnings.warn(
                f"{self.escaped} texts have special tokens written in them, which were read as text. "
                "escape_special_tokens=False lets them become the tokens.",
                SpecialTokensWarning,
                stacklevel=3,
            )


def schema_of(encoder: Encoder) -> "pa.Schema":
    """The Arrow columns of tokenized rows."""
    import pyarrow as pa

    kinds = [("input_ids", pa.list_(pa.int32())), ("attention_mask", pa.list_(pa.int8()))]
    kinds += [("labels", pa.list_(pa.int32()))] if encoder.labelled else []
    kinds += [("word_ids", pa.list_(pa.int32()))] if encoder.has_words else []
    return pa.schema([*kinds, ("row_id", pa.int64())])


def record_batch(columns: Columns, row_ids: list[int], schema: "pa.Schema") -> "pa.RecordBatch":
    """Encoded columns and the numbers of their rows as Arrow."""
    import pyarrow as pa

    arrays = [pa.array(columns[field.name], type=field.type) for field in list(schema)[:-1]]
    return pa.record_batch([*arrays, pa.array(row_ids, type=pa.int64())], schema=schema)


def shown(batches: Iterable[Columns], total: int | None = None) -> Iterator[Columns]:
    """Pass batches on, with a progress bar on a terminal once they take more than two seconds."""
    from datasets.utils import tqdm

    with tqdm(total=total, unit=" rows", desc="tokenize", disable=None, delay=2, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch["input_ids"]))


def _tokenized_parts(
    parts: "Mapping[str, Dataset]", encoder: Encoder, workers: int, tally: Tally
) -> "dict[str, Dataset]":
    """Each part tokenized, with rows numbered through all parts."""
    from datasets import Dataset

    done: dict[str, Dataset] = {}
    for name, part in parts.items():
        tables = _tokenized(part, encoder, workers, tally, first_id=sum(len(made) for made in done.values()))
        done[name] = Dataset(tables)
        tally.refuse_nothing_learnt(name)
    return done


def _tokenized(part: "Dataset", encoder: Encoder, workers: int, tally: Tally, *, first_id: int) -> "pa.Table":
    import pyarrow as pa

    missing = [name for name in encoder.fields if name not in part.column_names]
    if missing:
        raise DataError(f"a split without {missing[0]!r}; there are {', '.join(part.column_names)}.",
                        field=missing[0], found=tuple(part.column_names))  # fmt: skip
    own_ids = part["row_id"][:] if "row_id" in part.column_names else range(first_id, first_id + len(part))

    def batches() -> Iterator[Batch]:
        texts = part.select_columns(list(encoder.fields))
        for number, batch in enumerate(texts.iter(batch_size=BATCH)):
            yield number * BATCH + 1, batch

    def counted() -> Iterator[Columns]:
        for columns, escaped in encoded(encoder, batches(), workers=workers):
            tally.add(columns)
            tally.escaped += escaped
            yield columns

    schema, made, start = schema_of(encoder), [], 0
    for columns in shown(counted(), len(part)):
        ids = list(own_ids[start : start + len(columns["input_ids"])])
        made.append(record_batch(columns, ids, schema))
        start += len(ids)
    return pa.Table.from_batches(made, schema=schema)
