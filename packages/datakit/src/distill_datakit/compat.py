"""The two functions that users of the original system know, with its faults corrected."""

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

    Unlike in the original system, seq2seq labels are the targets and not the input; causal labels are not
    shifted by hand before the model shifts them; rows are not padded here; and masked rows are masked by
    ``collator``, again in each epoch.

    Args:
        input_path: Anything that ``load_data`` reads. In a folder each ``.txt`` file is one example.
        tokenizer: The tokenizer of the model.
        max_length: The limit of source and of target, in tokens.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``; the names of the tasks work as well.
        masking_probability: It is only checked here; give it to ``collator``, which makes the masks.

    Returns:
        Tokenized rows, as ``tokenize`` makes them.

    Raises:
        DataError: The data cannot be used.
        OptionError: An unknown ``model_type``, or a probability outside (0, 1].

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import prepare_tokenized_dataset
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> prepare_tokenized_dataset("texts.jsonl", tokenizer, max_length=3)[0]["input_ids"]
        [5, 6, 7]
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
    """Load, split and tokenize one file or folder.

    The parts have exact sizes, as in the original system; ``split`` also makes parts that do not change when
    the data grows.

    Args:
        input_path: Anything that ``load_data`` reads. In a folder each ``.txt`` file is one example.
        tokenizer: The tokenizer of the model.
        max_length: The limit of source and of target, in tokens.
        model_type: ``causal_lm``, ``seq2seq_lm`` or ``masked_lm``; the names of the tasks work as well.
        masking_probability: It is only checked here; give it to ``collator``, which makes the masks.
        split_config: Any of ``train``, ``val``, ``test`` (shares) and ``seed``. The defaults are 0.8, 0.1,
            0.1 and 42.

    Returns:
        The tokenized parts ``train``, ``validation`` and ``test``.

    Raises:
        DataError: The data cannot be used, or a part would be empty.
        OptionError: An unknown ``model_type``, a probability outside (0, 1], an unknown key of
            ``split_config``, or shares that do not sum to 1.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import prepare_dataset_dict
        >>> tokenizer = AutoTokenizer.from_pretrained("translator")
        >>> parts = prepare_dataset_dict("pairs.jsonl", tokenizer, model_type="seq2seq_lm")
        >>> {name: len(part) for name, part in parts.items()}
        {'train': 32, 'validation': 4, 'test': 4}
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
