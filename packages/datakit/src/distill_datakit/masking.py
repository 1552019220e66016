"""What is hidden from a model and learnt, as a pure function of seed, row and epoch."""

import itertools
from typing import TYPE_CHECKING, Literal

from distill_datakit.columns import IGNORED
from distill_datakit.errors import DataError, OptionError, TokenizerError
from distill_datakit.special_tokens import special_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

Masking = Literal["token", "word", "span", "span_corruption"]
_LONGEST_SPAN, _STOP = 10, 0.2  # words; both from SpanBERT


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
    words: "NDArray[np.int64] | None" = None,
    spans: bool = False,
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Choose positions to predict; of these 80 % become the mask, 10 % a random token, 10 % stay.

    The same seed, row and epoch give the same masks, whatever the batch, its order or the workers. At
    least one position is chosen where any may be, so that something is learnt from each short row too.

    Args:
        input_ids: ``(seq,)``, without padding.
        maskable: Which positions may be chosen, ``(seq,)``: not the special tokens.
        replacements: Ids that a random token is drawn from.
        mask_id: Id of the mask token.
        probability: The chance of each position to be chosen.
        seed: The seed of the run, at least 0.
        row_id: The number of the row.
        epoch: The number of the epoch, counted from 0.
        words: The word of each position, ``(seq,)``: words are then chosen whole.
        spans: Choose runs of words until ``probability`` of the positions is reached, their lengths
            geometric with mean 3.8 words; each run becomes masks, random tokens or stays as a whole.

    Returns:
        Ids to feed and labels (-100 where nothing is predicted), both ``(seq,)``.

    Source:
        Devlin et al. 2019, section 3.1, arXiv:1810.04805; spans: Joshi et al. 2020, section 3.1,
        arXiv:1907.10529.
    """
    import numpy as np

    random = _generator(seed, row_id, epoch)
    draw, kind = random.random(len(input_ids)), random.random(len(input_ids))
    others = replacements[random.integers(0, len(replacements), len(input_ids))]
    # The position that speaks for each: the first of its word, or itself.
    first = np.arange(len(input_ids)) if words is None else _word_starts(words)
    if spans:
        chosen, kind = _choose_spans(random, first, maskable, probability, kind)
    else:
        chosen = maskable & (draw[first] < probability)
        if not chosen.any() and maskable.any():
            chosen = maskable & (first == first[np.where(maskable, draw[first], 2.0).argmin()])
    fed = np.where(chosen & (kind < 0.8), mask_id, input_ids)
    fed = np.where(chosen & (kind >= 0.8) & (kind < 0.9), others, fed)
    return fed, np.where(chosen, input_ids, IGNORED)


def corrupt_row(
    input_ids: "NDArray[np.int64]",
    *,
    sentinels: "NDArray[np.int64]",
    end_id: int,
    probability: float,
    span_length: float,
    seed: int,
    row_id: int,
    epoch: int,
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Take spans out of a row: a sentinel stands for each in the input, and before each in the labels.

    Args:
        input_ids: ``(seq,)``, with or without the end token behind.
        sentinels: Ids, in the order of their use; there are at most as many spans.
        end_id: Closes input and labels.
        probability: Share of the tokens that is taken out, at least one.
        span_length: Mean length of the spans in tokens.
        seed: The seed of the run, at least 0.
        row_id: The number of the row.
        epoch: The number of the epoch, counted from 0.

    Returns:
        Input and labels, of unlike lengths. A row without a token gives labels of -100.

    Source:
        Raffel et al. 2020, section 3.1.4, arXiv:1910.10683: their ``random_spans_noise_mask``, with
        ``random_roll``.
    """
    import numpy as np

    ids = input_ids[:-1] if len(input_ids) and input_ids[-1] == end_id else input_ids
    if not len(ids):
        return np.array([end_id]), np.array([IGNORED])
    random = _generator(seed, row_id, epoch)
    hidden = min(max(round(len(ids) * probability), 1), max(len(ids) - 1, 1))
    count = max(1, min(round(hidden / span_length), hidden, len(ids) - hidden, len(sentinels)))
    lengths = zip(_segments(random, len(ids) - hidden, count), _segments(random, hidden, count), strict=True)
    gone = np.concatenate([np.repeat([False, True], pair) for pair in lengths])
    # Rolled, or the row's end would always be hidden; where no span is torn, or there would be one more.
    borders = np.flatnonzero(~(gone & np.roll(gone, 1)))
    gone = np.roll(gone, -int(random.choice(borders))) if len(borders) else gone
    first = gone & ~np.concatenate([[False], gone[:-1]])
    # Before each token stands the sentinel of the span that begins with it, if one does.
    both = np.stack([sentinels[np.cumsum(first) - 1], ids], axis=1)
    fed, learnt = (both[np.stack([first, seen], axis=1)] for seen in (~gone, gone))
    return np.append(fed, end_id), np.append(learnt, end_id)


def _generator(seed: int, row_id: int, epoch: int) -> "np.random.Generator":
    import numpy as np

    # Philox is a counter-based generator: key and counter say everything, no state is carried along.
    word = (1 << 64) - 1
    stream = np.random.Philox(key=[seed & word, row_id & word], counter=[0, 0, 0, epoch & word])
    return np.random.Generator(stream)


def _segments(random: "np.random.Generator", total: int, count: int) -> "list[int]":
    """``total`` cut at random into ``count`` parts, each at least 1 where ``total`` suffices."""
    import numpy as np

    if total < count:  # one token, all of it taken out
        return [total]
    cuts = np.sort(random.permutation(total - 1)[: count - 1]) + 1
    return [int(n) for n in np.diff([0, *cuts, total])]


def _word_starts(words: "NDArray[np.int64]") -> "NDArray[np.intp]":
    """For each position where its word begins."""
    import numpy as np

    begins = np.diff(words, prepend=words[:1] - 1) != 0
    return np.maximum.accumulate(np.where(begins, np.arange(len(words)), 0))


def _choose_spans(
    random: "np.random.Generator",
    first: "NDArray[np.intp]",
    maskable: "NDArray[np.bool_]",
    probability: float,
    kind: "NDArray[np.float64]",
) -> "tuple[NDArray[np.bool_], NDArray[np.float64]]":
    """The chosen positions, and ``kind`` made equal within each span."""
    import numpy as np

    chosen = np.zeros(len(first), dtype=bool)
    budget = max(1, round(probability * int(maskable.sum())))
    starts = np.unique(first)
    words = [np.arange(begin, end) for begin, end in itertools.pairwise([*starts, len(first)])]
    kind = kind.copy()
    for begin in random.permutation(len(words)):
        if chosen.sum() >= budget:
            break
        length = min(int(random.geometric(_STOP)), _LONGEST_SPAN)
        for word in words[begin : begin + length]:
            if chosen.sum() >= budget or chosen[word[0]] or not maskable[word].all():
                break
            chosen[word] = True
            kind[word] = kind[words[begin][0]]
    return chosen, kind


def check_probability(probability: float) -> None:
    """Raise ``OptionError`` unless it is above 0 and at most 1."""
    if not 0.0 < probability <= 1.0:
        raise OptionError(
            f"masking_probability={probability}: above 0 and at most 1 is allowed.",
            field="masking_probability", found=probability, suggestion=0.15)  # fmt: skip


class Masker:
    """Masks rows for a masked model.

    Args:
        tokenizer: A tokenizer with a mask token.
        masking: ``"token"``, ``"word"`` or ``"span"``.
        seed: The seed of the masks.
        probability: The share of positions that are predicted.

    Raises:
        TokenizerError: There is no mask token; or whole words and a slow tokenizer, which does not say
            where they are.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", masking: Masking, *, seed: int, probability: float
    ) -> None:
        import numpy as np

        if tokenizer.mask_token_id is None:
            raise TokenizerError(
                "task 'masked' needs a mask token and this tokenizer has none. Set tokenizer.mask_token.",
                field="tokenizer.mask_token",
            )
        if masking != "token" and not tokenizer.is_fast:
            raise TokenizerError(
                f"masking={masking!r} needs a fast tokenizer (tokenizer.json), which says what a word is.",
                field="masking", found=masking, allowed=("token",), suggestion="token")  # fmt: skip
        self.mask_id = int(tokenizer.mask_token_id)
        special = set(special_tokens(tokenizer).values())
        self.special = np.array(sorted(special), dtype=np.int64)
        ordinary = sorted(set(tokenizer.get_vocab().values()) - special)
        self.replacements = np.array(ordinary or [self.mask_id], dtype=np.int64)
        self.masking, self.seed, self.probability = masking, seed, probability
        self.scheme = ("dynamic 80/10/10", masking, seed, probability)

    def __call__(
        self, ids: "NDArray[np.int64]", words: "NDArray[np.int64] | None", *, row_id: int, epoch: int
    ) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """Ids to feed, and labels.

        Raises:
            DataError: Whole words are to be chosen and the row does not say what they are.
        """
        import numpy as np

        if self.masking != "token" and words is None:
            raise DataError(
                f"masking={self.masking!r} needs rows with 'word_ids'. Make them with tokenize().",
                field="word_ids")  # fmt: skip
        return mask_row(
            ids, maskable=~np.isin(ids, self.special), replacements=self.replacements, mask_id=self.mask_id,
            probability=self.probability, seed=self.seed, row_id=row_id, epoch=epoch,
            words=words if self.masking != "token" else None, spans=self.masking == "span")  # fmt: skip


class Corrupter:
    """Corrupts spans of rows for a T5-like model.

    Args:
        tokenizer: A tokenizer with an end token and ``<extra_id_0>``, ``<extra_id_1>``...
        seed: The seed of the spans.
        probability: The share of tokens that are taken out.
        span_length: The mean length of a span in tokens.

    Raises:
        TokenizerError: The tokenizer lacks one of them.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, seed: int, probability: float, span_length: float
    ) -> None:
        import numpy as np

        vocabulary = tokenizer.get_vocab()
        names = itertools.takewhile(vocabulary.__contains__, (f"<extra_id_{n}>" for n in itertools.count()))
        self.sentinels = np.array([vocabulary[name] for name in names], dtype=np.int64)
        if not len(self.sentinels) or tokenizer.eos_token_id is None:
            raise TokenizerError(
                "span corruption needs an end token and the tokens <extra_id_0>, <extra_id_1>... as T5's "
                "tokenizers have them. Add them with tokenizer.add_tokens.",
                field="tokenizer.eos_token" if tokenizer.eos_token_id is None else "tokenizer",
            )
        self.end_id = int(tokenizer.eos_token_id)
        self.seed, self.probability, self.span_length = seed, probability, span_length
        self.scheme = ("span corruption", seed, probability, span_length)

    def __call__(
        self, ids: "NDArray[np.int64]", words: "NDArray[np.int64] | None", *, row_id: int, epoch: int
    ) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """Input and labels."""
        del words  # tokens are taken out, whatever their words
        return corrupt_row(
            ids, sentinels=self.sentinels, end_id=self.end_id, probability=self.probability,
            span_length=self.span_length, seed=self.seed, row_id=row_id, epoch=epoch)  # fmt: skip
