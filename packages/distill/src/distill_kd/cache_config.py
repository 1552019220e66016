"""Configuration of a teacher's cache. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from distill_kd.config import check_positive, check_temperature
from distill_kd.errors import ConfigError

BYTES_PER_TOKEN = 146  # with a row's 16 bytes of index, at most 150 for rows of four tokens or more
DENSE_VOCABULARY = 128  # up to here all float32 scores take no more than 512 bytes a token


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """How much of the teacher's distribution is cached.

    Attributes:
        k: Number of most likely teacher tokens that are kept separate at each position. The probability of
            all others is kept as one number. A ``k`` of the vocabulary's size or more keeps all scores as
            they are (a dense cache). By default, vocabularies of up to 128 tokens are dense, and larger ones
            keep as many tokens as fit 150 bytes a position: 47, or 35 beyond 65,536 tokens.
        max_kl_error: Largest KL divergence of the cached from the teacher's distribution, in nats per token.
            The smallest ``k`` that stays below it is chosen, on up to 2,048 positions of 64 rows; the cache
            is dense where no smaller ``k`` does. Give either this or ``k``.
        temperature: Number above 0 that the teacher's logits are divided by before they are cached. A
            truncated cache serves only this temperature; a dense one serves all.
        epochs: Number of epochs whose masks are cached. More than 1 is for masked models only.
        shard_tokens: Number of positions in one file. A killed run loses at most this much work.
        max_bytes: Largest size of the cache in bytes. A cache that would be larger is refused before anything
            is written.

    Raises:
        ConfigError: A value is outside its range, or ``k`` and ``max_kl_error`` are both given.
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
            if value is not None:
                check_positive(name, value)
        if self.max_kl_error is not None and self.max_kl_error <= 0:
            raise ConfigError(
                f"max_kl_error = {self.max_kl_error} was asked for; it must be above 0 nats.",
                field="max_kl_error",
                found=self.max_kl_error,
            )
        if self.k is not None and self.max_kl_error is not None:
            raise ConfigError(
                "k and max_kl_error were both given; max_kl_error chooses k, so give one.",
                field="k",
                found=self.k,
            )


def bytes_of(k: int, vocab_size: int) -> int:
    """Bytes a position takes with ``k`` of ``vocab_size`` tokens: id and code each, range and tail."""
    return k * (3 if vocab_size <= 1 << 16 else 4) + 4


def default_k(vocab_size: int) -> int:
    """The k that is taken when nothing was asked for; ``vocab_size`` itself means dense."""
    if vocab_size <= DENSE_VOCABULARY:
        return vocab_size
    return (BYTES_PER_TOKEN - 4) // (3 if vocab_size <= 1 << 16 else 4)
