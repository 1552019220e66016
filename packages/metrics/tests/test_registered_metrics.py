"""Another distribution registers metrics by name, found without being imported."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_metrics import (
    EmptyTextError,
    HFMetricHelper,
    RegisteredMetricError,
    SettingError,
    TextMetric,
    UnknownMetricError,
    check_metric_names,
    compare,
    load_metric,
    lower_is_better,
    measure_systems,
    metric_names,
    score,
)
from distill_metrics.cli import main

MODULE = '''
from distill_metrics import TextMetric


def vowels(prediction, references, *, upper=False):
    """Share of letters that are vowels."""
    wanted = "AEIOU" if upper else "aeiou"
    return sum(map(prediction.count, wanted)), max(1, len(prediction))


def excess(prediction, references):
    return len(prediction) - len(references[0])


surplus = TextMetric(counts=excess, unit="ratio", lower_is_better=True)
spread = TextMetric(
    counts=lambda prediction, references: (1.0, len(prediction), len(prediction) ** 2),
    value=lambda sums: sums[2] / sums[0] - (sums[1] / sums[0]) ** 2,
    unit="ratio",
)
empty = TextMetric(counts=lambda prediction, references: (1.0, 0.0))
uneven = TextMetric(counts=lambda prediction, references: [1.0] * (2 + len(prediction)), value=sum)
words = TextMetric(counts=lambda prediction, references: "many")
number = 3
'''
POINTS = {
    "vowels": "vowels_metric:vowels",
    "surplus": "vowels_metric:surplus",
    "spread": "vowels_metric:spread",
    "empty": "vowels_metric:empty",
    "uneven": "vowels_metric:uneven",
    "words": "vowels_metric:words",
    "number": "vowels_metric:number",
    "gone": "no_such_module:metric",
    "bleu": "vowels_metric:vowels",
}

Install = Callable[[str, dict[str, str]], None]


@pytest.fixture(name="install")
def made_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with entry points on the path, as an installer does."""

    def install(distribution: str, points: dict[str, str]) -> None:
        site = tmp_path / distribution
        info = site / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[distill_metrics.metrics]", *lines, ""]))
        (site / "vowels_metric.py").write_text(MODULE)
        monkeypatch.syspath_prepend(str(site))

    return install


@pytest.fixture(name="vowels")
def made_vowels(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution ``vowels``."""
    install("vowels", POINTS)
    monkeypatch.delitem(sys.modules, "vowels_metric", raising=False)


@pytest.mark.usefixtures("vowels")
def test_a_registered_name_is_known_before_its_module_is_imported() -> None:
    """Checked, listed and suggested by name; what this package has itself stays what it is."""
    assert check_metric_names(["per", "vowels"]) == ("per", "vowels")
    assert "vowels" in metric_names()
    assert metric_names().count("bleu") == 1
    with pytest.raises(UnknownMetricError) as caught:
        check_metric_names(["vowel"])
    assert (caught.value.found, caught.value.suggestion) == ("vowel", "vowels")
    assert "vowels_metric" not in sys.modules


@pytest.mark.usefixtures("vowels")
def test_a_registered_metric_is_scored_and_compared_with_intervals() -> None:
    """Sums divided as a percentage; the signature names the distribution; settings are its keywords."""
    found = score(["aa", "bb", "ab"] * 10, ["x"] * 30, metrics=["vowels", "exact_match"])["vowels"]
    assert (found.value, found.unit, found.n) == (50.0, "percent", 30)
    assert found.per_example is not None
    assert found.per_example[:3] == (100.0, 0.0, 50.0)
    assert found.interval is not None
    assert found.interval[0] < 50.0 < found.interval[1]
    assert found.signature == "vowels|vowels 1.2"
    upper = score(["AB"], ["x"], metrics=["vowels"], settings={"vowels": {"upper": True}})["vowels"]
    assert (upper.value, upper.signature) == (50.0, "vowels|vowels 1.2|upper:True")
    with pytest.raises(SettingError) as caught:
        score(["AB"], ["x"], metrics=["vowels"], settings={"vowels": {"uper": True}})
    assert (caught.value.field, caught.value.suggestion) == ("settings.vowels.uper", "upper")


@pytest.mark.usefixtures("vowels")
def test_a_registered_metric_says_which_way_is_up_and_its_unit() -> None:
    """A mean of one number a text, lower is better: so the shorter system wins."""
    assert lower_is_better("surplus")
    assert not lower_is_better("vowels")
    references = ["aa"] * 20
    one = compare(["aab"] * 20, ["aabcd"] * 20, references, metric="surplus", names=("short", "long"))
    assert (one.better, one.difference) == ("short", -2.0)
    report = measure_systems(
        {"short": ["aab"] * 20, "long": ["aabcd"] * 20}, references, metrics=["surplus"], teacher="long"
    )
    assert report.scores["short"]["surplus"].unit == "ratio"
    assert report.scores["short"]["surplus"].value == 1.0
    assert report.retention == {"short": {}}


@pytest.mark.usefixtures("vowels")
def test_a_metric_with_its_own_value_is_computed_from_the_sums() -> None:
    """The variance of lengths 1 and 3; it has no value for a single text."""
    found = score(["a", "aaa"], ["x", "x"], metrics=["spread"])["spread"]
    assert (found.value, found.per_example) == (1.0, None)


@pytest.mark.usefixtures("vowels")
def test_a_registered_metric_works_in_a_trainer_in_batches_and_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever a metric is named."""
    running = load_metric("vowels")
    running.add_batch(predictions=["aa"], references=["x"])
    assert running.compute(predictions=["bb"], references=["x"]) == {"vowels": 50.0}
    assert running.info[0].description == "Share of letters that are vowels."
    assert load_metric("surplus").info[0].unit == "ratio"
    helper = HFMetricHelper(None, metrics=["vowels"])  # type: ignore[arg-type] # texts need no tokenizer
    assert helper.score(["ab"], ["x"]) == {"vowels": 50.0}
    (tmp_path / "texts.txt").write_text("ab\n")
    assert main([str(tmp_path / "texts.txt"), str(tmp_path / "texts.txt"), "--metrics", "vowels"]) == 0
    assert "50.00" in capsys.readouterr().out


@pytest.mark.usefixtures("vowels")
@pytest.mark.parametrize(
    ("name", "field"), [("number", "metrics"), ("gone", "metrics"), ("words", "counts"), ("uneven", "counts")]
)
def test_what_is_not_a_metric_is_refused_when_it_is_used(name: str, field: str) -> None:
    """Not importable, not callable, no numbers, not equally many."""
    assert check_metric_names([name]) == (name,)
    with pytest.raises(RegisteredMetricError) as caught:
        score(["a", "bb"], ["a", "b"], metrics=[name])
    assert caught.value.field == field


@pytest.mark.usefixtures("vowels")
def test_a_text_that_counts_nothing_is_refused() -> None:
    """As an empty reference is by the metrics of this package."""
    with pytest.raises(EmptyTextError) as caught:
        score(["a"], ["a"], metrics=["empty"])
    assert caught.value.field == "references"


def test_a_name_that_two_distributions_register_is_refused(install: Install) -> None:
    """With both of them, once it is used; the same distribution twice on the path is one."""
    install("vowels", {"vowels": "vowels_metric:vowels"})
    install("others", {"vowels": "other_metric:vowels", "fine": "vowels_metric:vowels"})
    assert score(["a"], ["a"], metrics=["fine"])["fine"].value == 100.0
    with pytest.raises(RegisteredMetricError, match=r"others 1\.2 and vowels 1\.2"):
        score(["a"], ["a"], metrics=["vowels"])


def test_a_metric_of_ones_own_is_a_frozen_description() -> None:
    """Percent, more is better, unless it says otherwise."""
    metric = TextMetric(counts=lambda prediction, references: 1.0)
    assert (metric.unit, metric.lower_is_better, metric.value) == ("percent", False, None)
