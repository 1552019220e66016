"""What the report says and draws, from figures as the stages write them."""

import dataclasses
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from huggingface_hub import ModelCard

from distill_app_trainer.report import results
from distill_app_trainer.report.charts import curves, places, reliability, trade
from distill_app_trainer.report.report import Report
from distill_app_trainer.report.results import (
    CacheResult,
    ExportResult,
    LabelResult,
    MergeResult,
    OtherResult,
    RunReport,
    RunResults,
    SystemResult,
    TrainResult,
    from_dict,
    report_schema,
    to_dict,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "line", "circle", "polyline", "br", "img"}


MEMORY = {"total_bytes": 200_000_000}
RUN_FILE = """
[run]
name = "tiny"
[models.big]
path = "acme/big"
[models.small]
path = "acme/small"
[stages.stored]
kind = "cache_teacher"
model = "big"
data = ["train"]
[stages.student]
kind = "distill"
model = "small"
teacher = "stored"
data = ["train"]
"""


class Balanced(HTMLParser):
    """Fails where tags do not pair up, and collects what is referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def metric(value: float) -> dict[str, object]:
    """A metric as ``MetricResult.to_dict`` gives it."""
    return {"value": value, "unit": "percent", "n": 4, "signature": "-", "interval": [value - 1, value + 1]}


DISTRIBUTION = {
    "ece": {"value": 4.56, "unit": "percent", "n": 1234},
    "reliability": [
        {"low": 0.2, "high": 0.3, "n": 5, "confidence": 0.25, "accuracy": 0.5},
        {"low": 0.9, "high": 1.0, "n": 1229, "confidence": 0.951, "accuracy": 0.813},
    ],
    "kl": {"value": 0.1237, "unit": "nats", "n": 1234},
    "top1_agreement": {"value": 91.24, "unit": "percent", "n": 1234},
    "entropy_gap": {"value": -0.025, "unit": "nats", "n": 1234},
    "by_place": [
        {"first": 0, "last": 0, "n": 4, "kl": 0.0321, "top1_agreement": 99.0},
        {"first": 2, "last": 3, "n": 4, "kl": 0.4567, "top1_agreement": 80.0},
    ],
}


def system(size: int, value: float, **more: object) -> dict[str, object]:
    """A system as an evaluate stage writes it."""
    return {
        "parameters": size // 4,
        "bytes": size,
        "metrics": {"exact_match": metric(value)},
        "ms_per_example": 2.0,
        "health": {"empty_percent": 0.0, "circular_percent": 12.5, "length_ratio": 1.25},
        **more,
    }


def typed(size: int, value: float, **more: object) -> SystemResult:
    """The same as the charts take it."""
    return from_dict(SystemResult, system(size, value, **more))


@pytest.fixture
def report() -> Report:
    """A student, its teacher, and a text that would be a tag."""
    answers = {"teacher": "A B", "student": "A <b>C</b>"}
    row = {"input": "<script>alert(1)</script>", "reference": ["A B", "A D"], "answers": answers}
    comparison = {
        "first": "student",
        "second": "teacher",
        "metric": "exact_match",
        "difference": -12.0,
        "interval": [-14.0, -10.0],
        "p": 0.001,
        "better": "teacher",
        "statement": "teacher is better than student.",
        "retention": metric(80.0),
    }
    own = {key: DISTRIBUTION[key] for key in ("ece", "reliability")}
    systems = {
        "teacher": system(8_000_000, 60.0, distribution=own),
        "student": system(2_000_000, 48.0, distribution=DISTRIBUTION),
    }
    content = from_dict(
        RunReport,
        {
            "run": {
                "name": "tiny",
                "task": "seq2seq",
                "seed": 1,
                "date": "2026-01-01",
                "seconds": 60.0,
                "forecast_seconds": 55.0,
                "stage_seconds": {"student": 12.0},
            },
            "plan": {
                "policies": {"student": {"threads": {"value": 1, "reason": "one core"}, "memory": MEMORY}}
            },
            "data": {
                "train": {
                    "rows": 9,
                    "truncated_percent": 12.34,
                    "repeated": 1,
                    "characters_median": 5,
                    "characters_most": 9,
                },
                "test": {"rows": 4, "also_in_train": 3, "sha256": "0123abcd"},
            },
            "other_runs": {"tiny-000000": {"student": system(4_000_000, 50.0)}},
            "systems": systems,
            "evaluations": {"scores": {"data": "test", "n": 4, "systems": systems}},
            "comparisons": {"student_vs_teacher": {"exact_match": comparison}},
            "stages": {
                "stored": {
                    "kind": "cache_teacher",
                    "rows": 9,
                    "bytes": 333600,
                    "tokens": 1200,
                    "k": None,
                    "bytes_per_token": 278.0,
                    "kl_error": 0.0,
                },
                "student": {
                    "kind": "distill",
                    "memory_bytes": 300_000_000,
                    "curves": {"loss": [[1, 3.0], [10, 1.0]], "kd": [[1, 2.0], [10, 0.5]]},
                },
            },
            "exports": {
                "edge": {
                    "path": "exports/edge",
                    "format": "onnx",
                    "precision": "int8",
                    "model": "student",
                    "size_bytes": 1_000_000,
                    "certificate": {
                        "verified": True,
                        "token_agreement": 0.9968085106382979,
                        "positions": 1880,
                        "degenerate": False,
                        "doubts": [],
                        "warnings": ["few rows", "<b>"],
                    },
                }
            },
            "samples": {"rows": [row], "worst": [row], "worst_of": "student"},
            "notes": [],
            "versions": {"torch": "2"},
            "run_file": RUN_FILE,
            "statements": ["student keeps 80 %"],
        },
    )
    return Report(content=content)


def test_results_are_read_back_as_they_were_written(report: Report) -> None:
    """Each kind of result keeps its type and its figures, those that are None and left out included."""
    written = RunResults(
        systems={"student": typed(8, 50.0, distribution=DISTRIBUTION)},
        stages={
            "trained": TrainResult(kind="finetune", curves={"loss": [(1, 2.0)]}),
            "labels": LabelResult(rows=3, kept=2),
            "cached": CacheResult(rows=3, tokens=9, bytes=90, bytes_per_token=10.0),
            "merged": MergeResult(model="trained"),
            "copied": OtherResult(kind="copy", figures={"model": "trained"}),
        },
        exports={
            "edge": ExportResult(
                path="exports/edge",
                model="trained",
                format="onnx",
                precision="int8",
                size_bytes=8,
                certificate={"verified": None},
            )
        },
    )
    assert from_dict(RunResults, json.loads(json.dumps(to_dict(written)))) == written
    assert from_dict(RunReport, json.loads(json.dumps(to_dict(report.content)))) == report.content


def test_what_may_be_none_may_be_missing() -> None:
    """None is left out when results are written, so each such field has the default None."""
    kinds = [one for one in vars(results).values() if dataclasses.is_dataclass(one)]
    hints = {(kind, name): hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    required = [
        (kind, field.name)
        for kind in kinds
        for field in dataclasses.fields(kind)
        if type(None) in get_args(hints[kind, field.name]) and field.default is not None
    ]
    assert len(kinds) > 10
    assert required == []


def test_report_json_has_a_published_schema(report: Report) -> None:
    """What is written has the properties that the schema names, and all that it requires."""
    schema = report_schema()
    written = to_dict(report.content)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(written) <= set(properties)
    assert properties["schema_version"]["default"] == written["schema_version"] == 2
    required = schema["required"]
    assert isinstance(required, list)
    assert set(required) <= set(written)


def test_the_page_is_whole_refers_to_nothing_outside_and_shows_texts_as_texts(report: Report) -> None:
    """Tags pair up, nothing is loaded from elsewhere, and what a model said never becomes markup."""
    page = report.html()
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    assert reader.links == []
    assert "<script" not in page
    assert "<script>alert(1)</script>" in reader.text
    assert "student keeps 80 %" in reader.text
    assert "55 s had been forecast" in reader.text
    for shown in ("12.5 %", "also in train", "200", "300", "0123abcd", "tiny-000000: student"):
        assert shown in reader.text
    assert "1,200 positions cached, all tokens each at 278 bytes" in reader.text
    assert len(page) < 500_000


def test_calibration_and_distance_from_the_teacher_are_shown_with_the_figures_of_the_json(
    report: Report,
) -> None:
    """Each figure of report.json stands on the page; places count from 1 there; data says what limits cut."""
    reader = Balanced()
    reader.feed(report.html())
    for shown in ("1,234", "4.56 %", "0.124", "91.2 %", "-0.025", "3 to 4", "0.032", "0.457", "12.3 %"):
        assert shown in reader.text
    for shown in ("25.0", "50.0", "95.1", "81.3", "1,229"):
        assert shown in reader.text
    alone = {"none": typed(1, 1.0)}
    drawn = reliability({"student": typed(1, 1.0, distribution=DISTRIBUTION), **alone})
    assert drawn is not None
    ideal, mine = drawn.lines
    assert (mine.name, round(mine.first, 3), round(mine.last, 3)) == ("student", 50.0, 81.3)
    assert ideal.points == "56.0,208.0 624.0,12.0"
    assert reliability(alone) is None
    assert places(alone) == ([], [])


def test_a_certificate_is_written_for_a_person(report: Report) -> None:
    """Digits that mean something, yes and no, and texts that stay texts."""
    reader = Balanced()
    reader.feed(report.html())
    text = " ".join(reader.text.split())
    for shown in (
        "token agreement0.9968 ",
        "positions1,880 ",
        "degenerateno ",
        "doubtsnone ",
        "few rows; <b>",
    ):
        assert shown in text


def test_the_verdict_says_what_is_kept_at_what_size_and_speed(report: Report) -> None:
    """First what the student keeps of its teacher, then who is better."""
    kept, better, _ = report.statements()
    assert kept.startswith("student keeps 80.00 [79.00, 81.00] % of teacher's exact_match, ")
    assert kept.endswith("at 25 % of its size and 1.0 times its speed.")
    assert better == "teacher is better than student."


def test_a_card_is_one_of_the_hub_with_the_figures_of_the_run(report: Report, tmp_path: Path) -> None:
    """Base model, teacher and every metric, read back by huggingface_hub; nothing is called None."""
    folder = tmp_path / "student"
    folder.mkdir()
    report.write(tmp_path, {"student": folder})
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "None" not in text
    assert "teacher: big" in text
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "acme/small"
    assert card.data.base_model_relation == "finetune"
    assert card.data.pipeline_tag == "text2text-generation"
    assert "distilled" in card.data.tags
    (found,) = list(card.data.eval_results or [])
    assert (found.metric_type, found.metric_value, found.dataset_split) == ("exact_match", 48.0, "test")


def test_curves_and_sizes_are_drawn_where_they_are() -> None:
    """The first step lies left of the last, the higher loss above the lower; a bigger system right."""
    trained = TrainResult(kind="finetune", curves={"loss": [(0, 4.0), (10, 1.0)]})
    drawn = curves({"s": trained, "labels": LabelResult(rows=1, kept=1)})
    assert drawn is not None
    (line,) = drawn.lines
    (left, high), (right, low) = (map(float, point.split(",")) for point in line.points.split())
    assert (line.name, line.first, line.last) == ("s", 4.0, 1.0)
    assert left < right
    assert high < low  # SVG counts from the top
    placed = trade({"big": typed(8_000_000, 60.0), "small": typed(2_000_000, 48.0)})
    assert placed is not None
    big, small = placed.chart.dots
    assert big.x > small.x
    assert big.y < small.y
    assert big.high < big.y < big.low
    assert (big.named, small.named) == (True, True)
    crowded = trade({"one": typed(8_000_000, 60.0), "two": typed(8_000_000, 60.1)})
    assert crowded is not None
    assert [dot.named for dot in crowded.chart.dots] == [True, False]
    assert curves({}) is None
    assert trade({"alone": typed(1, 1.0)}) is None


def test_systems_of_other_runs_are_drawn_beside_and_set_no_name() -> None:
    """By time as well as by size; one that was scored by another metric is left out."""
    mine = {"big": typed(8_000_000, 60.0), "small": typed(2_000_000, 48.0)}
    other = {"a-1": {"small": typed(4_000_000, 50.0)}, "a-2": {"x": typed(1, 1.0, metrics={})}}
    for cost in ("MB", "ms an example"):
        placed = trade(mine, other, cost=cost)
        assert placed is not None
        assert [dot.name for dot in placed.chart.dots if dot.other] == ["a-1: small"]
        assert len(placed.chart.dots) == 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [400, 900, 1400])
def test_the_page_is_drawn_by_a_browser(width: int, report: Report, tmp_path: Path) -> None:
    """Headless, from disk, on a telephone, a tablet and a desk: a picture that is not one colour."""
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(report.html(), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1200"]
    command = [str(CHROMIUM), *options, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 10_000
