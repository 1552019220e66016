"""Raw texts of a run by name, and what of a row is input and what is right."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_app_trainer.checks.data import INPUTS, TARGETS
from distill_app_trainer.errors import RunFileError, Setting
from distill_app_trainer.runfile.references import is_split
from distill_app_trainer.runfile.schema import RunConfig, Task

if TYPE_CHECKING:
    from datasets import Dataset

Reference = str | list[str]


def load_texts(config: RunConfig) -> dict[str, "Dataset"]:
    """Every file of ``[data]``, ``train`` alone parted into train, validation and test.

    Raises:
        RunFileError: A row that cannot be used, by file, row and field, or too few rows to part.
    """
    from distill_datakit import DataError, load, split

    texts = {}
    for name, source in config.data.items():
        try:
            texts[name] = load(source.path, columns=dict(source.columns) or None)
        except DataError as error:
            lines = error.row is not None and source.path.endswith((".jsonl", ".csv", ".tsv"))
            fix = f"{os.path.relpath(source.path)}:{error.row}: delete" if lines else None
            raise RunFileError(f"data.{name}: {error}", fix=fix) from None
    if is_split(config):
        how = config.split
        try:
            parts = split(texts["train"], exact=how.exact, key=how.key, seed=how.seed)
        except DataError as error:
            said = str(error).replace("Use split(..., exact=True)", "Set data.split.exact = true")
            exact = Setting(("data", "split", "exact"), True)  # noqa: FBT003 - a value of the run file
            raise RunFileError(f"data.train: {said}", fix=None if how.exact else exact) from None
        texts |= {str(name): part for name, part in parts.items()}
    return texts


def joined(texts: Mapping[str, "Dataset"], names: Sequence[str], task: Task) -> "Dataset":
    """The rows of several names one after the other, with the columns that are learnt from.

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


def inputs_of(part: "Dataset") -> list[str]:
    """The text of each row that a model reads."""
    for name in INPUTS:
        if name in part.column_names and name != "messages":
            return [str(text) for text in part[name]]
    raise RunFileError(
        f"No text to answer: {', '.join(INPUTS[:3])} is needed, found {', '.join(part.column_names)}."
    )


def references_of(part: "Dataset") -> list[Reference]:
    """What is right for each row: the list in ``references`` where there is one, else the target."""
    for name in ("references", *TARGETS):
        if name in part.column_names:
            return [text if isinstance(text, str) else [str(one) for one in text] for text in part[name]]
    raise RunFileError(
        f"Nothing to compare with: references, {' or '.join(TARGETS)} is needed, found "
        f"{', '.join(part.column_names)}."
    )


def hide_words(texts: Sequence[str], mask: str, *, pieces: Sequence[Sequence[int]], seed: int) -> list[str]:
    """Each text with one word replaced by masks, the word chosen by seed and row.

    Args:
        texts: Whole texts.
        mask: The mask token.
        pieces: For each text how many tokens each of its words has.
        seed: Another seed hides other words.
    """
    import random

    hidden = []
    for index, (text, counts) in enumerate(zip(texts, pieces, strict=True)):
        words = text.split()
        place = random.Random(f"{seed}-{index}").randrange(len(words))  # noqa: S311 - not for secrets
        words[place] = " ".join([mask] * max(1, counts[place]))
        hidden.append(" ".join(words))
    return hidden
