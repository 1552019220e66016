"""The digits are those of the reference libraries."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_metrics import bleu, bleu_smoothed, chrf, chrfpp, rougeLsum, ter
from distill_metrics.table import METRICS

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
WORDS = [
    "the",
    "a",
    "running",
    "runner",
    "cats",
    "cat",
    "café",
    "cafè",
    "naïve",
    "12",
    "3.5",
    "don't",
    "state-of-the-art",
    "İstanbul",
    "ñ",
    "straße",
    "中文",
    "мир",
]


def random_pairs(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of a few words that overlap, with punctuation, line ends and letters of several scripts."""
    rng = random.Random(seed)

    def text() -> str:
        words = ["the", *rng.choices(WORDS, k=rng.randint(0, 12))]
        return "".join(word + rng.choice([" ", " ", "\n", ". ", ", "]) for word in words)

    return [text() for _ in range(n)], [text() for _ in range(n)]


@pytest.mark.parametrize(("stemmer", "count"), [(True, 10_000), (False, 2_000)])
def test_rouge_has_the_digits_of_rouge_score_on_random_unicode_pairs(stemmer: bool, count: int) -> None:
    """Every example's F1 equals rouge_score's, bit for bit, over 10,000 pairs and four variants."""
    from rouge_score.rouge_scorer import RougeScorer

    predictions, references = random_pairs(count, seed=5)
    oracle = RougeScorer(list(ROUGE), use_stemmer=stemmer)
    expected = [oracle.score(right, text) for text, right in zip(predictions, references, strict=True)]
    for name in ROUGE:
        found = METRICS[name].function(predictions, references, stemmer=stemmer)
        assert found.per_example == tuple(100.0 * row[name].fmeasure / 1.0 for row in expected)


def test_the_best_of_several_references_counts_as_in_rouge_score() -> None:
    """The reference with the highest F1 is chosen for each example and variant."""
    from rouge_score.rouge_scorer import RougeScorer

    predictions, first = random_pairs(50, seed=6)
    second, _ = random_pairs(50, seed=7)
    oracle = RougeScorer(["rougeLsum"], use_stemmer=True)
    both = [list(pair) for pair in zip(first, second, strict=True)]
    expected = tuple(
        100.0 * oracle.score_multi(rights, text)["rougeLsum"].fmeasure
        for rights, text in zip(both, predictions, strict=True)
    )
    assert rougeLsum(predictions, both).per_example == expected


def test_sacrebleu_metrics_have_sacrebleus_digits() -> None:
    """BLEU, chrF, chrF++ and TER equal what sacrebleu gives for the transposed references."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    predictions, first = random_pairs(60, seed=8)
    second, _ = random_pairs(60, seed=9)
    ours = [list(pair) for pair in zip(first, second, strict=True)]
    theirs = [first, second]
    assert bleu(predictions, ours).value == BLEU().corpus_score(predictions, theirs).score
    assert chrf(predictions, ours).value == CHRF().corpus_score(predictions, theirs).score
    assert chrfpp(predictions, ours).value == CHRF(word_order=2).corpus_score(predictions, theirs).score
    assert ter(predictions, ours).value == TER().corpus_score(predictions, theirs).score


def test_examples_may_have_different_numbers_of_references() -> None:
    """A missing reference is left out, not taken as an empty one."""
    text = "the cat sat on the mat"
    uneven = bleu([text, text], [[text, "a dog"], text])
    assert uneven.value == pytest.approx(100.0)
    assert "nrefs:var" in uneven.signature


def test_bleu_smoothed_equals_nltks_method1() -> None:
    """The original's corpus BLEU, on tokens both see alike."""
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu  # type: ignore[import-untyped] # no types

    predictions = ["a b c d e", "f g x i j k"]
    references = ["a b y d e z", "f q h r j s"]
    expected = corpus_bleu(
        [[right.split()] for right in references],
        [text.split() for text in predictions],
        smoothing_function=SmoothingFunction().method1,
    )
    assert bleu_smoothed(predictions, references).value == pytest.approx(100 * expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_rouge_agrees_with_rouge_score_on_any_text(text: str, right: str) -> None:
    """Whatever characters come, the digits are the same."""
    from rouge_score.rouge_scorer import RougeScorer

    right = f"word {right}"
    oracle = RougeScorer(["rougeL"], use_stemmer=True).score(right, text)["rougeL"].fmeasure
    assert METRICS["rougeL"].function([text], [right]).value == 100.0 * oracle
