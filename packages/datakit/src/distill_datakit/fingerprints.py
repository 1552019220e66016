"""One hash of what a tokenized dataset was made from, for caches and checkpoints."""

from typing import TYPE_CHECKING

from distill_datakit.hashing import data_digest, digest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from distill_datakit.collation import Collator
    from distill_datakit.tokenization import TokenizedData


def fingerprint(data: "TokenizedData | Dataset | DatasetDict", collate: "Collator | None" = None) -> str:
    """Make one stable hash, which trainers, caches and checkpoints take as ``data_fingerprint``.

    It changes with the rows, their order and split, the preprocessing, the tokenizer's ids, the chat template
    if there are chats, and the masks. It does not change with paths, times, caches, columns that are not
    read, the number of workers or the version of a file's format.

    Args:
        data: The result of ``tokenize`` or ``tokenize_to_disk``; or raw rows, of which every column counts.
        collate: The collator that makes batches of the data, whose masks then count too.

    Returns:
        A SHA-256 hash in hexadecimal digits.

    Example:
        >>> from distill_datakit import fingerprint, load_data
        >>> rows = load_data("texts.jsonl")
        >>> fingerprint(rows) == fingerprint(load_data(list(rows)))
        True
        >>> fingerprint(rows) == fingerprint(rows.select(range(39)))
        False
    """
    fields = dict(getattr(data, "fingerprint", None) or {"data": data_digest(data)})
    return digest(fields | dict(collate.fingerprint if collate is not None else {}))
