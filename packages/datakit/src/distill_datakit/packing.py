"""Fewer padding tokens: several causal rows in one, and batches of rows of like length."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from distill_datakit.columns import IGNORED
from distill_datakit.errors import DataError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset, DatasetDict
    from numpy.typing import NDArray
    from torch import nn

    Data = TypeVar("Data", Dataset, DatasetDict)


def pack(data: "Data", *, length: int) -> "Data":
    """Put several tokenized causal rows into one of at most ``length`` tokens, by best fit.

    No row is cut, and the texts of a row do not mix: positions begin again with each text, ``collator`` makes
    the attention that keeps the texts apart, and the first token of a text is not learnt, since models shift
    labels by one and would predict it from the text before.

    Args:
        data: Rows that ``tokenize`` made for a causal model.
        length: The size of packed rows in tokens, at least that of the longest row. For a model with sliding
            windows, at most the window; see ``packed_attention`` of ``collator``.

    Returns:
        Rows of ``input_ids``, ``labels``, ``position_ids`` and ``row_id`` (the list of the rows in it),
        in the order of the first text of each.

    Raises:
        DataError: A row is longer than ``length``, or the rows are not those of a causal task.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import load_data, pack, tokenize
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> rows = tokenize(load_data("texts.jsonl"), tokenizer, "causal").data
        >>> packed = pack(rows, length=10)
        >>> len(rows), len(packed), packed[0]["position_ids"]
        (40, 20, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])

    Source:
        Best-fit-decreasing bin packing; Ding et al. 2024, arXiv:2404.10830.
    """
    from datasets import DatasetDict

    if isinstance(data, DatasetDict):
        return DatasetDict({name: _packed(part, length) for name, part in data.items()})
    return _packed(data, length)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items into bins: the longest first, each into the fullest bin that has room.

    Args:
        lengths: The lengths of the items, each at most ``capacity``.
        capacity: The size of a bin.

    Returns:
        The indices of the items in each bin, ascending; bins in the order of their first item.
    """
    bins: list[list[int]] = []
    rooms: list[list[int]] = [[] for _ in range(capacity + 1)]  # by what is left: the bins
    open_rooms = 0  # bit n is set where rooms[n] is not empty
    for item in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        need = lengths[item]
        fitting = open_rooms >> need
        left = need + (fitting & -fitting).bit_length() - 1 if fitting else capacity
        if fitting:
            place = rooms[left].pop()
            if not rooms[left]:
                open_rooms &= ~(1 << left)
        else:
            place = len(bins)
            bins.append([])
        bins[place].append(item)
        rooms[left - need].append(place)
        open_rooms |= 1 << (left - need)
    return sorted(sorted(items) for items in bins)


def _packed(part: "Dataset", length: int) -> "Dataset":
    import numpy as np
    import pyarrow as pa  # type: ignore[import-untyped]  # it publishes no types
    from datasets import Dataset

    missing = {"input_ids", "labels", "row_id"} - set(part.column_names)
    if missing or "position_ids" in part.column_names:
        raise DataError(
            f"rows of tokenize() for a causal task are packed, once; there are "
            f"{', '.join(part.column_names)}.",
            found=tuple(part.column_names), allowed=("input_ids", "labels", "row_id"))  # fmt: skip
    table = part.with_format("arrow")[:]
    ids, labels = (_flat(table[name]) for name in ("input_ids", "labels"))
    ends = np.cumsum([0, *ids[1]])
    sizes = ids[1].tolist()
    if labels[1].tolist() != sizes:
        raise DataError("labels and input_ids differ in length: only causal rows can be packed.")
    if sizes and max(sizes) > length:
        row = sizes.index(max(sizes))
        raise DataError(
            f"{sizes[row]} tokens do not fit into length={length}. Give tokenize() limits, or raise length.",
            row=row + 1, field="length", found=length, suggestion=sizes[row])  # fmt: skip
    numbers = table["row_id"].to_pylist()
    columns: dict[str, list[object]] = {
        name: [] for name in ("input_ids", "labels", "position_ids", "row_id")
    }
    for items in best_fit(sizes, length):
        places = [np.arange(ends[item], ends[item + 1]) for item in items]
        learnt = [labels[0][place] for place in places]
        for one in learnt:
            one[:1] = IGNORED
        columns["input_ids"].append(ids[0][np.concatenate(places)])
        columns["labels"].append(np.concatenate(learnt))
        columns["position_ids"].append(np.concatenate([np.arange(len(place)) for place in places]))
        columns["row_id"].append([numbers[item] for item in items])
    kinds = {name: pa.list_(pa.int64() if name == "row_id" else pa.int32()) for name in columns}
    return Dataset(pa.table({name: pa.array(columns[name], type=kind) for name, kind in kinds.items()}))


def _flat(column: "object") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """The values of a column of lists in one array, and the length of each list."""
    import numpy as np
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # it publishes no types

    lengths = pc.list_value_length(column).to_numpy()
    return pc.list_flatten(column).to_numpy().astype(np.int64), lengths


def packing_error(model: "nn.Module", *, length: int = 64, packed_attention: str = "mask") -> float:
    """Measure how far a causal model's logits for packed texts are from those for each text alone.

    Run it once for each architecture that you have not packed for before. A model that ignores positions or a
    block mask, such as one with a recurrent state, mixes the texts and reports no error.

    Args:
        model: Any ``*ForCausalLM`` with its weights. It is left in the mode it was in.
        length: The size of the packed row in tokens; the longest text takes half of them.
        packed_attention: The value that is given to ``collator``.

    Returns:
        The largest absolute difference over the largest logit. In float32 it is below 1e-5 if the texts stay
        apart; it is infinity if the model takes no positions or refuses the mask.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> from distill_datakit import packing_error
        >>> packing_error(AutoModelForCausalLM.from_pretrained("writer"), length=16) < 1e-5
        True
    """
    import torch

    from distill_datakit.collation import separated

    sizes = [length // 2, length // 4, length // 8, length // 8]
    random = torch.Generator().manual_seed(0)
    parameter = next(model.parameters())
    size = int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]  # a transformers model
    texts = [torch.randint(0, size, (1, n), generator=random).to(parameter.device) for n in sizes]
    positions = torch.cat([torch.arange(n) for n in sizes])[None]
    apart = separated(positions, block_mask=packed_attention == "mask")
    packed = {name: value.to(parameter.device) for name, value in apart.items()}
    training = model.training
    model.train(mode=False)
    try:
        with torch.no_grad():
            alone = torch.cat([model(input_ids=text, use_cache=False).logits[0] for text in texts])
            together = model(input_ids=torch.cat(texts, dim=1), use_cache=False, **packed).logits[0]
    except (TypeError, ValueError, RuntimeError):
        return float("inf")
    finally:
        model.train(mode=training)
    return float((alone - together).abs().max() / alone.abs().max())


class LengthSampler:
    """An order of rows in which each batch has rows of similar length, for seq2seq and masked models.

    Give it to a ``DataLoader`` as ``sampler``. Rows are shuffled, sorted by length within groups of fifty
    batches, and the batches are shuffled, so that the order of an epoch is still random. It depends on
    lengths, seed and epoch alone.

    Args:
        lengths: The lengths of the rows in tokens.
        batch_size: The number of rows in a batch.
        seed: The seed of the order.

    Raises:
        OptionError: ``batch_size`` is below 1.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int = 42) -> None:
        if batch_size < 1:
            raise OptionError(
                f"batch_size={batch_size}: at least 1 row is needed.",
                field="batch_size", found=batch_size, suggestion=1)  # fmt: skip
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch follows; the order changes with it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Each index once."""
        import numpy as np

        random = np.random.default_rng([self.seed, self.epoch])
        lengths = np.asarray(self.lengths)
        order, group = random.permutation(len(lengths)), 50 * self.batch_size
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), group):
            some = order[start : start + group]
            some = some[np.argsort(-lengths[some], kind="stable")]
            batches += [some[n : n + self.batch_size] for n in range(0, len(some), self.batch_size)]
        # A batch that is not full stays last, or it would shift the borders of those behind it.
        whole = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        mixed = [*(whole[index] for index in random.permutation(len(whole))), *rest]
        return iter([int(index) for batch in mixed for index in batch])
