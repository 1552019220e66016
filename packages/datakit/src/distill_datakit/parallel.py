"""Encode batches in several processes, results in the order of the batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from distill_datakit.errors import OptionError

if TYPE_CHECKING:
    from concurrent.futures import Future

Columns = dict[str, list[list[int]]]
Batch = tuple[int, Mapping[str, Sequence[object]]]  # the number of its first row, and columns
Encode = Callable[[Mapping[str, Sequence[object]], int], tuple[Columns, int]]
_mine: list[Encode] = []  # the encoder of a worker process


def encoded(encode: Encode, batches: Iterable[Batch], *, workers: int) -> Iterator[tuple[Columns, int]]:
    """What ``encode`` makes of each batch; never more than a few batches wait in memory.

    Args:
        encode: Takes raw columns and the number of their first row. It is sent to each worker once.
        batches: Raw columns, each with the number of its first row.
        workers: Processes; 1 encodes here. Fast tokenizers use all cores by themselves: more than one
            helps slow tokenizers and chat templates, which are Python.

    Raises:
        OptionError: ``workers`` is below 1.
    """
    if workers < 1:
        raise OptionError(
            f"workers={workers}: at least 1 is needed.", field="workers", found=workers, suggestion=1
        )
    if workers == 1:
        for first, columns in batches:
            yield encode(columns, first)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Spawned, not forked: a fork of a process whose tokenizer has started threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(encode,))
    with pool:
        waiting: deque[Future[tuple[Columns, int]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(_encode, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _start(encode: Encode) -> None:
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _mine.append(encode)


def _encode(batch: Batch) -> tuple[Columns, int]:
    first, columns = batch
    return _mine[0](columns, first)
