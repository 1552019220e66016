"""What a masked model is asked: texts with one word hidden, and how likely it finds that word."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_app_trainer.run.context import Workbench
from distill_app_trainer.run.data import Reference, hide_words, inputs_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def whole_texts(part: "Dataset") -> list[str]:
    """The texts of which a word is hidden: those that have words, with one blank between them."""
    return [" ".join(text.split()) for text in inputs_of(part) if text.split()]


def masked_questions(
    part: "Dataset", tokenizer: "PreTrainedTokenizerBase", *, seed: int
) -> tuple[list[str], list[Reference]]:
    """Texts with one word hidden, the same for every system and run of a seed, and the whole texts."""
    texts = whole_texts(part)
    pieces = [
        [
            len(tokenizer(" " * (at > 0) + word, add_special_tokens=False)["input_ids"])
            for at, word in enumerate(text.split())
        ]
        for text in texts
    ]
    hidden = hide_words(texts, str(tokenizer.mask_token), pieces=pieces, seed=seed)
    ids = tokenizer(texts)["input_ids"]
    plain: list[Reference] = [str(text) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return hidden, plain


def compare_likelihoods(
    bench: Workbench, pair: tuple[str, str], likely: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, object]:
    """Two systems by the likelihood of the words that were hidden from both."""
    from distill_metrics import compare_log_probs

    found = compare_log_probs(likely[pair[0]], likely[pair[1]], names=pair, seed=bench.plan.config.run.seed)
    return {**found.to_dict(), "statement": found.statement()}
