"""The two functions that users of the original system know, with its faults mended."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill_datakit.columns import TASKS, Task
from distill_datakit.errors import OptionError
from distill_datakit.loading import load_data
from distill_datakit.masking import check_probability
from distill_datakit.splitting import split
from distill_datakit.tokenization import tokenize

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase

_TASK_OF: Mapping[str, Task] = {
    "causal_lm": "causal",
    "seq2seq_lm": "seq2seq",
    "masked_lm": "masked",
    **{task: task for task in TASKS},
}
SPLIT_CONFIG: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1, "seed": 42}


def prepare_tokenized_dataset(
    input_path: str | Path,
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int = 128,
    *,
    model_type: str = "causal_lm",
    masking_probability: float = 0.15,
) -> "Dataset":
    """Load and tokenize one file or folder.

    Unlike in the original, seq2seq labels are the targets and not the input; causal labels are not shifted
    by hand before the model shifts them; rows are not padded here; and masked rows are masked by
    ``collator``, anew each epoch.

    Args:
        input_path: Whatever ``load_data`` reads; of a folder each ``.txt`` file is one example.
        tokenizer: Of the model.
        max_length: Limit of source and of target, in tokens.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``; the task names do as well.
        masking_probability: Checked here; give it to ``collator``, which is what masks.

    Returns:
        Rows as of ``tokenize``.

    Raises:
        DataError: The data cannot be used; see ``load_data`` and ``tokenize``.
        OptionError: An unknown ``model_type`` or a probability outside (0, 1].
    """
    task = _checked_task(model_type, masking_probability)
    return tokenize(
        load_data(input_path), tokenizer, task, max_source_length=max_length, max_target_length=max_length
    ).data


def prepare_dataset_dict(
    input_path: str | Path,
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int = 128,
    *,
    model_type: str = "causal_lm",
    masking_probability: float = 0.15,
    split_config: Mapping[str, float] | None = None,
) -> "DatasetDict":
    """Load, split and tokenize one file or folder: ``train``, ``validation`` and ``test``.

    Counts are exact, as in the original; ``split`` also offers parts that stay when the data grows.

    Args:
        input_path: As of ``prepare_tokenized_dataset``.
        tokenizer: Of the model.
        max_length: Limit of source and of target, in tokens.
        model_type: As of ``prepare_tokenized_dataset``.
        masking_probability: Checked here; give it to ``collator``.
        split_config: Any of ``train``, ``val``, ``test`` (shares) and ``seed``; otherwise 0.8, 0.1, 0.1, 42.

    Returns:
        Tokenized parts.

    Raises:
        DataError: The data cannot be used, or a part would be empty.
        OptionError: As of ``prepare_tokenized_dataset``; an unknown key of ``split_config``, or shares
            that do not sum to 1.
    """
    task = _checked_task(model_type, masking_probability)
    unknown = set(split_config or {}) - set(SPLIT_CONFIG)
    if unknown:
        raise OptionError.of("split_config", min(unknown), tuple(SPLIT_CONFIG))
    config = {**SPLIT_CONFIG, **(split_config or {})}
    fractions = (config["train"], config["val"], config["test"])
    parts = split(load_data(input_path), fractions=fractions, seed=int(config["seed"]), exact=True)
    return tokenize(parts, tokenizer, task, max_source_length=max_length, max_target_length=max_length).data


def _checked_task(model_type: str, masking_probability: float) -> Task:
    if model_type not in _TASK_OF:
        raise OptionError.of("model_type", model_type, tuple(_TASK_OF))
    check_probability(masking_probability)
    return _TASK_OF[model_type]
