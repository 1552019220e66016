"""What each metric promises, alone and together."""

import importlib
import pickle
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distill_metrics
from distill_metrics import (
    EmptyTextError,
    MetricError,
    SettingError,
    ShapeError,
    TextTypeError,
    UnknownMetricError,
    bleu,
    cer,
    check_metric_names,
    exact_match,
    lower_is_better,
    per,
    rouge1,
    score,
    ter,
    token_f1,
    wer,
)
from distill_metrics.names import METRIC_NAMES
from distill_metrics.table import METRICS

SCRIPTS = {
    "latin": "café naïve über señor",
    "cyrillic": "кошка сидит на ковре",
    "greek": "η γάτα κάθεται εδώ",
    "arabic": "القطة تجلس على السجادة",
    "hebrew": "החתול יושב על השטיח",
    "devanagari": "बिल्ली चटाई पर बैठी",
    "thai": "แมว นั่ง บน เสื่อ",
    "chinese": "猫坐在垫子上",
    "japanese": "猫がマットの上に座る",
    "korean": "고양이가 매트 위에 앉았다",
    "emoji": "😀 🎉 👩‍👩‍👧 🚀 ☀️",
    "mixed": "cat кошка 猫 γάτα 😀",
}
# Of each script its letters and symbols, and white space between some of them.
scripts = st.sampled_from(sorted(SCRIPTS)).flatmap(
    lambda name: st.lists(st.sampled_from(SCRIPTS[name].split()), min_size=1, max_size=7).map(" ".join)
)
words = st.lists(st.sampled_from(["cat", "dog", "sun", "red", "x1"]), min_size=4, max_size=9).map(" ".join)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_identical_texts_score_the_best_value(name: str) -> None:
    """100 for scores, 0 for error rates."""
    texts = ["the cat sat on the mat", "one two three four five"]
    best = 0.0 if lower_is_better(name) else 100.0
    assert METRICS[name].function(texts, texts).value == pytest.approx(best)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=2, max_size=6))
def test_order_of_examples_does_not_matter_and_scores_are_bounded(pairs: list[tuple[str, str]]) -> None:
    """Every metric is a function of the set of examples; scores lie in 0 to 100, error rates above 0."""
    turned = pairs[::-1]
    for name in METRIC_NAMES:
        one = METRICS[name].function(*map(list, zip(*pairs, strict=True)))
        other = METRICS[name].function(*map(list, zip(*turned, strict=True)))
        assert one.value == pytest.approx(other.value)
        assert one.value >= 0.0
        assert lower_is_better(name) or one.value <= 100.0 + 1e-9


@pytest.mark.parametrize("script", SCRIPTS)
def test_identical_text_scores_the_best_value_in_every_script(script: str) -> None:
    """Twelve scripts and every metric, with the tokenizers that fit any of them."""
    text = " ".join([SCRIPTS[script]] * 3)
    fit: dict[str, dict[str, object]] = {
        "rouge": {"tokenizer": "unicode"},
        "bleu": {"tokenize": "char"},
    }
    for name in METRIC_NAMES:
        options = next((one for start, one in fit.items() if name.startswith(start)), {})
        best = 0.0 if lower_is_better(name) else 100.0
        assert METRICS[name].function([text], [text], **options).value == pytest.approx(best), name


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(scripts, scripts), min_size=1, max_size=5))
def test_every_script_keeps_the_bounds_in_any_order(pairs: list[tuple[str, str]]) -> None:
    """Both tokenizers for any script, chrF and the error rates: 0 to 100, whatever the order of examples."""
    said, right = ([pair[side] for pair in pairs] for side in (0, 1))
    for name, options in (
        ("rouge1", {"tokenizer": "unicode"}),
        ("rougeL", {"tokenizer": "character"}),
        ("chrf", {}),
        ("token_f1", {}),
        ("cer", {}),
        ("wer", {}),
    ):
        found = METRICS[name].function(said, right, **options)
        turned = METRICS[name].function(said[::-1], right[::-1], **options)
        assert found.value == pytest.approx(turned.value)
        assert found.value >= 0.0
        assert lower_is_better(name) or found.value <= 100.0 + 1e-9
        assert found.empty_predictions == 0


def test_a_symbol_is_a_word_to_the_tokenizers_of_any_script() -> None:
    """Emoji among words count; a text of punctuation alone has none and is refused."""
    assert rouge1(["ok 😀"], ["ok 🎉"], tokenizer="unicode").value == pytest.approx(50.0)
    assert rouge1(["😀"], ["😀🎉"], tokenizer="character").value == pytest.approx(100 * 2 / 3)
    assert rouge1(["a 20 °C"], ["a 20 °C"], tokenizer="unicode").value == pytest.approx(100.0)
    with pytest.raises(EmptyTextError, match="no letter, digit or symbol"):
        rouge1(["..."], ["..."], tokenizer="unicode")


@pytest.mark.parametrize("script", ["cyrillic", "arabic", "chinese", "emoji"])
def test_rouge_of_other_scripts_is_refused_by_default(script: str) -> None:
    """Where rouge_score gives 0.0 for identical texts, the error names the tokenizer that works."""
    with pytest.raises(EmptyTextError, match='tokenizer="unicode"'):
        rouge1(["x", SCRIPTS[script]], ["x", SCRIPTS[script]])


def test_a_prediction_reduced_to_nothing_scores_0_and_is_counted() -> None:
    """Only references are refused."""
    found = rouge1(["猫", "", "cat"], ["cat", "cat", "cat"])
    assert found.per_example == (0.0, 0.0, 100.0)
    assert found.empty_predictions == 2
    assert found.to_dict()["empty_predictions"] == 2


@pytest.mark.parametrize("name", [name for name in METRIC_NAMES if name != "exact_match"])
def test_an_empty_reference_is_refused_and_an_empty_prediction_is_all_wrong(name: str) -> None:
    """The row is named; without any prediction every score is 0 and every error rate 100."""
    with pytest.raises(EmptyTextError, match="example 1 is empty"):
        METRICS[name].function(["a b c d", "a"], ["a b c d", " "])
    found = METRICS[name].function(["", " "], ["a b c d", "e f g h"])
    assert found.value == (100.0 if lower_is_better(name) else 0.0)
    assert found.empty_predictions == 2


def test_exact_match_takes_a_blank_prediction_for_a_blank_reference() -> None:
    """No answer can be the right answer; white space does not count."""
    assert exact_match(["", " a  b\n"], [" ", ["x", "a b"]]).value == 100.0
    assert exact_match(["The Cat!"], ["cat"]).value == 0.0
    assert exact_match(["The Cat!"], ["cat"], normalize="squad").value == 100.0


def test_token_f1_is_the_harmonic_mean_of_shared_tokens() -> None:
    """Tokens count as often as they occur: 2 shared of 3 and 4 give 4/7."""
    assert token_f1(["a a b"], ["a a c d"]).value == pytest.approx(100 * 4 / 7)


def test_error_rates_choose_the_nearest_reference_and_break_ties_by_length() -> None:
    """Both references are one edit away: the longer one's length is counted."""
    found = per(["K AE T S", "D AO G"], [["K AE T", "K AE T S Z"], "D AO G"])
    assert found.value == pytest.approx(100 * 1 / (5 + 3))
    assert found.per_example == (20.0, 0.0)
    assert wer(["a b"], [["c d e f g h", "a c"]]).value == 50.0
    assert cer([" ab "], ["abcd"]).value == 50.0


BAD: list[tuple[object, object, type[MetricError], str]] = [
    (["a"], ["a", "b"], ShapeError, "1 predictions but 2 references"),
    (["a", "b", "c"], [["a", "b", "c"]], ShapeError, "each a text or a list of texts"),
    ([], [], ShapeError, "no examples"),
    (["a"], [[]], ShapeError, "Example 0 has an empty list"),
    ("a", ["a"], TextTypeError, "predictions is one string"),
    (["a"], "a", TextTypeError, "references is one string"),
    (["a", 5], ["a", "b"], TextTypeError, "prediction of example 1 is a int"),
    (["a"], [None], TextTypeError, "reference of example 0 is a NoneType"),
    (["a"], [["a", None]], TextTypeError, "reference of example 0 is a NoneType"),
]


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize(("predictions", "references", "error", "message"), BAD)
def test_shapes_that_other_libraries_score_are_refused(
    name: str, predictions: Sequence[str], references: Sequence[str], error: type[Exception], message: str
) -> None:
    """Unequal lengths, flat strings, transposed references, None and numbers: never a score."""
    with pytest.raises(error, match=message):
        METRICS[name].function(predictions, references)


def test_bleu_is_refused_where_it_is_undefined() -> None:
    """No reference of four tokens: identical texts would score 0."""
    with pytest.raises(EmptyTextError, match="No reference has 4 tokens"):
        bleu(["我爱你们大家"], ["我爱你们大家"])
    assert bleu(["我爱你们大家"], ["我爱你们大家"], tokenize="zh").value == pytest.approx(100.0)
    # The closest reference is short, another is not.
    assert bleu(["a b"], [["a b", "a b c d e"]]).value == 0.0


def test_ter_and_bleu_take_their_settings() -> None:
    """Settings change the value and stand in the signature."""
    assert ter(["A b"], ["a b"], case_sensitive=True).value == 50.0
    assert bleu(["A b c d"], ["a b c d"], lowercase=True).value == pytest.approx(100.0)
    assert "case:lc" in bleu(["A b c d"], ["a b c d"], lowercase=True).signature


@pytest.mark.parametrize(
    ("metric", "setting", "message"),
    [
        ("rouge1", {"tokenizer": "french"}, "Allowed: rouge_score, unicode, character"),
        ("rouge1", {"tokenizer": "unicode", "stemmer": True}, "Porter stemmer is for English"),
        ("bleu", {"smoothing": "more"}, "no smoothing 'more'"),
        ("bleu", {"tokenize": "14a"}, "no tokenizer '14a'"),
        ("chrf", {"word_order": -1}, "word_order=-1"),
        ("exact_match", {"normalize": "no"}, "Allowed: blanks, squad"),
        ("token_f1", {"normalize": "no"}, "Allowed: blanks, squad"),
        ("per", {"stemmer": True}, "no setting 'stemmer'. Allowed: none"),
    ],
)
def test_a_wrong_setting_is_refused(metric: str, setting: dict[str, object], message: str) -> None:
    """With what is allowed."""
    with pytest.raises(SettingError, match=message):
        score(["a b c d"], ["a b c d"], metrics=[metric], settings={metric: setting})


def test_an_unknown_metric_names_the_nearest() -> None:
    """Capitals included; nothing near names the list only."""
    with pytest.raises(UnknownMetricError, match=r"'rougel'\. Did you mean 'rougeL'\?"):
        check_metric_names(["rougel"])
    with pytest.raises(UnknownMetricError, match=r"'exact_mtch'\. Did you mean 'exact_match'\?"):
        score(["a"], ["a"], metrics=["exact_mtch"])
    with pytest.raises(UnknownMetricError, match=r"'zzzzzz'\. Allowed: rouge1"):
        lower_is_better("zzzzzz")
    with pytest.raises(UnknownMetricError, match="No metric was named"):
        check_metric_names([])


def test_the_table_holds_every_name_and_errors_travel() -> None:
    """Names, table and public functions agree; errors survive pickling, between processes."""
    assert tuple(METRICS) == METRIC_NAMES
    assert all(getattr(distill_metrics, name) is METRICS[name].function for name in METRIC_NAMES)
    public = importlib.import_module("distill_metrics").__all__
    assert all(hasattr(distill_metrics, name) for name in public)
    assert dir(distill_metrics) == sorted(public)
    assert METRICS["per"].lower_is_better
    assert str(pickle.loads(pickle.dumps(UnknownMetricError("x")))) == "x"  # noqa: S301 - our own bytes
    with pytest.raises(AttributeError, match="rouge9"):
        distill_metrics.__getattr__("rouge9")


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Neither sacrebleu nor numpy nor rapidfuzz, even when names are checked."""
    code = (
        "import sys, distill_metrics; distill_metrics.check_metric_names(['per']);"
        "heavy = ('numpy', 'sacrebleu', 'rapidfuzz', 'rouge_score_rs', 'torch');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
