"""One hash of what a tokenized dataset was made from, for caches and checkpoints."""

from typing import TYPE_CHECKING

from distill_datakit.hashing import data_digest, digest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from distill_datakit.collation import Collator
    from distill_datakit.tokenization import TokenizedData


def fingerprint(data: "TokenizedData | Dataset | DatasetDict", collate: "Collator | None" = None) -> str:
    """One stable hash, as trainers, caches and checkpoints take it for ``data_fingerprint``.

    It changes with the rows, their order and split, the preprocessing, what the tokenizer makes of text, the
    chat template where there are chats, and the masks; not with paths, times, caches, columns that are not
    read, the number of workers or the version of a file's format.

    Args:
        data: What ``tokenize`` or ``tokenize_to_disk`` returned; or raw rows, of which every column counts.
        collate: What batches them, whose masks then count too.

    Returns:
        SHA-256, hexadecimal.
    """
    fields = dict(getattr(data, "fingerprint", None) or {"data": data_digest(data)})
    return digest(fields | dict(collate.fingerprint if collate is not None else {}))
