"""The raw texts of a run by name, and the rows that a stage learns from."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_app_trainer.errors import RunFileError, SetKey
from distill_app_trainer.runfile.references import is_split
from distill_app_trainer.runfile.schema import RunConfig
from distill_app_trainer.runfile.stage import Task

if TYPE_CHECKING:
    from datasets import Dataset


def load_texts(config: RunConfig) -> dict[str, "Dataset"]:
    """Read every file of ``[data]``; ``train`` alone is split into train, validation and test.

    Raises:
        RunFileError: A row cannot be used, by file, row and field, or there are too few rows to split.
    """
    from distill_datakit import DataError, load_data, split

    texts = {}
    for name, source in config.data.items():
        try:
            texts[name] = load_data(source.path, columns=dict(source.columns) or None)
        except DataError as error:
            lines = error.row is not None and source.path.endswith((".jsonl", ".csv", ".tsv"))
            fix = f"{os.path.relpath(source.path)}:{error.row}: delete" if lines else None
            raise RunFileError(f"data.{name}: {error}", fix=fix) from None
    if is_split(config):
        how = config.split
        try:
            parts = split(texts["train"], exact=how.exact, key=how.key, seed=how.seed)
        except DataError as error:
            key = ("data", "split", str(error.field))
            fix_split = None if error.suggestion is None else SetKey(key, error.suggestion)
            raise RunFileError(f"data.train: {error}", fix=fix_split) from None
        texts |= {str(name): part for name, part in parts.items()}
    return texts


def joined(texts: Mapping[str, "Dataset"], names: Sequence[str], task: Task) -> "Dataset":
    """The rows of several names one after the other, with the columns that are learned from.

    Raises:
        RunFileError: Their columns cannot stand in one dataset.
    """
    from datasets import concatenate_datasets

    parts = [_plain(texts[name], task) for name in names]
    shapes = {tuple(sorted(part.column_names)) for part in parts}
    if len(shapes) > 1:
        listed = "; ".join(
            f"{name}: {', '.join(part.column_names)}" for name, part in zip(names, parts, strict=True)
        )
        raise RunFileError(f"The data of one stage must have the same columns, found {listed}.")
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _plain(part: "Dataset", task: Task) -> "Dataset":
    """Input and target under one pair of names, whatever the file called them."""
    columns = part.column_names
    if task == "masked" and "text" in columns:
        return part.select_columns(["text"])
    for first, second in (("source", "target"), ("prompt", "completion")):
        if first in columns and second in columns:
            kept = part.select_columns([first, second])
            return kept if first == "source" else kept.rename_columns({first: "source", second: "target"})
    return part.select_columns([name for name in ("messages", "text", "target") if name in columns][:1])
