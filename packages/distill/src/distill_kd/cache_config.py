"""What a run file may say about a teacher's cache. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from distill_kd.config import check_temperature

BYTES_PER_TOKEN = 146  # with a row's 16 bytes of index, at most 150 for rows of four tokens or more
DENSE_VOCABULARY = 128  # up to here all float32 scores take no more than 512 bytes a token


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """How much of the teacher's distribution is kept.

    Attributes:
        k: Tokens kept at each position, the likeliest ones, beside the probability of all others together;
            as many as the vocabulary has, or more, keep its scores as they are ("dense"). None is dense for
            vocabularies of up to 128 tokens, else as many as fit 150 bytes a token (47, or 35 beyond 65,536
            tokens), unless ``max_kl_error`` is given.
        max_kl_error: Choose the smallest k whose KL(teacher || stored) is at most this, nats a token, on up
            to 2,048 positions of 64 rows; dense where no smaller k reaches it.
        temperature: Softens the stored distribution, > 0; a truncated cache serves no other. A dense one
            serves all.
        epochs: How many epochs' masks to store; more than 1 only for masked models.
        shard_tokens: Positions in a file: what a kill can cost, and what is verified at once.
        max_bytes: Refuse, before anything is written, a cache that would be larger.

    Raises:
        ValueError: A value is outside its range, or ``k`` and ``max_kl_error`` are both given.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    k: int | None = None
    max_kl_error: float | None = None
    temperature: float = 1.0
    epochs: int = 1
    shard_tokens: int = 65_536
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        check_temperature(self.temperature)
        for name in ("k", "epochs", "shard_tokens", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value} was asked for; it must be at least 1.")
        if self.max_kl_error is not None and self.max_kl_error <= 0:
            raise ValueError(f"max_kl_error = {self.max_kl_error} was asked for; it must be above 0 nats.")
        if self.k is not None and self.max_kl_error is not None:
            raise ValueError("k and max_kl_error were both given; max_kl_error chooses k, so give one.")


def bytes_of(k: int, vocab_size: int) -> int:
    """Bytes a position takes with ``k`` of ``vocab_size`` tokens: id and code each, range and tail."""
    return k * (3 if vocab_size <= 1 << 16 else 4) + 4


def default_k(vocab_size: int) -> int:
    """The k that is taken when nothing was asked for; ``vocab_size`` itself means dense."""
    if vocab_size <= DENSE_VOCABULARY:
        return vocab_size
    return (BYTES_PER_TOKEN - 4) // (3 if vocab_size <= 1 << 16 else 4)
