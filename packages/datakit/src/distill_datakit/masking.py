"""Masks for masked language models, as a pure function of seed, row and epoch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def mask_row(
    input_ids: "NDArray[np.int64]",
    *,
    maskable: "NDArray[np.bool_]",
    replacements: "NDArray[np.int64]",
    mask_id: int,
    probability: float,
    seed: int,
    row_id: int,
    epoch: int,
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Choose positions to predict; of these 80 % become the mask, 10 % a random token, 10 % stay.

    The same seed, row and epoch give the same masks, whatever the batch, its order or the workers. At
    least one position is chosen where any may be, so that a short row never goes unlearnt.

    Args:
        input_ids: ``(seq,)``, without padding.
        maskable: Which positions may be chosen, ``(seq,)``: not the special tokens.
        replacements: Ids that a random token is drawn from.
        mask_id: Id of the mask token.
        probability: Chance of a position to be chosen.
        seed: Of the run, >= 0.
        row_id: Of the row.
        epoch: Counted from 0.

    Returns:
        Ids to feed and labels (-100 where nothing is predicted), both ``(seq,)``.

    Source:
        Devlin et al. 2019, section 3.1, arXiv:1810.04805.
    """
    import numpy as np

    # Philox is a counter-based generator: key and counter say everything, no state is carried along.
    word = (1 << 64) - 1
    stream = np.random.Philox(key=[seed & word, row_id & word], counter=[0, 0, 0, epoch & word])
    random = np.random.Generator(stream)
    draw, kind = random.random(len(input_ids)), random.random(len(input_ids))
    others = replacements[random.integers(0, len(replacements), len(input_ids))]
    chosen = maskable & (draw < probability)
    if not chosen.any() and maskable.any():
        chosen[np.where(maskable, draw, 2.0).argmin()] = True
    fed = np.where(chosen & (kind < 0.8), mask_id, input_ids)
    fed = np.where(chosen & (kind >= 0.8) & (kind < 0.9), others, fed)
    return fed, np.where(chosen, input_ids, -100)
