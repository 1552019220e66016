"""Predictions that say nothing, repeat themselves or copy the teacher are counted."""

import pytest

from distill_metrics import ShapeError, degeneration_rates, repeats_itself


def test_rates_are_shares_of_predictions_and_of_words() -> None:
    """One of four each; 13 words for 8; of several references the first gives the length."""
    predictions = ["a b", " ", "so so so so", "x y z x y z x"]
    references = ["a b", "c d", ["e f", "g"], "h i"]
    assert degeneration_rates(predictions, references) == {
        "empty_percent": 25.0,
        "circular_percent": 25.0,
        "length_ratio": 13 / 8,
    }
    found = degeneration_rates(predictions, references, teacher=["a b", "", "so", "x y z x y z x"])
    assert found["as_teacher_percent"] == 50.0


def test_rates_of_what_does_not_pair_up_are_refused() -> None:
    """Other numbers of references or of the teacher's predictions, which the error names as data."""
    with pytest.raises(ShapeError):
        degeneration_rates(["a"], ["a", "b"])
    with pytest.raises(ShapeError) as caught:
        degeneration_rates(["a"], ["a"], teacher=[])
    assert (caught.value.field, caught.value.found) == ("teacher", 0)


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("", False),
        ("a a", False),
        ("a a a", True),
        ("one a b a b a b two", True),
        ("a b a b a", False),
        (" ".join(["a b c d e f g h"] * 3), True),
        (" ".join(["a b c d e f g h i"] * 3), False),
    ],
)
def test_a_phrase_of_up_to_eight_words_three_times_in_a_row_is_a_repetition(text: str, repeats: bool) -> None:
    """Wherever it stands; longer phrases are not looked for."""
    assert repeats_itself(text) is repeats
