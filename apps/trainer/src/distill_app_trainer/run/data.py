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
            exact = None if error.suggestion is None else SetKey(("data", "split", "exact"), error.suggestion)
            raise RunFileError(f"data.train: {error}", fix=exact) from None
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
    """The columns that are learned from; input and target under one pair of names."""
    from distill_datakit import training_columns

    columns = training_columns(task, part.column_names)
    kept = part.select_columns(list(columns))
    if len(columns) == 2 and columns[0] != "source":
        return kept.rename_columns(dict(zip(columns, ("source", "target"), strict=True)))
    return kept
