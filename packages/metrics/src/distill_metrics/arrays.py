"""Arrays out of what trainers and models hand over."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED = -100
"""The label of a position that does not count, in torch and transformers."""


def as_array(value: object) -> "NDArray[np.generic]":
    """Numpy from numpy, a tensor on any device, lists of any lengths, or the first member of a tuple.

    Rows of lists that are shorter than others are filled up with -100.
    """
    import numpy as np

    if isinstance(value, tuple) and value:
        value = value[0]
    detach = getattr(value, "detach", None)
    if detach is not None:
        tensor = detach().cpu()
        # numpy has no bfloat16.
        value = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if isinstance(value, list) and value and isinstance(value[0], list):
        width = max(len(row) for row in value)
        value = [[*row, *[IGNORED] * (width - len(row))] for row in value]
    array: NDArray[np.generic] = np.asarray(value)
    return array
