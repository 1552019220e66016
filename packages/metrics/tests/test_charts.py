"""Where curves, dots and labels lie, and which words are marked."""

from distill_metrics.charts import cost_chart, line_chart, mark_words, reliability_diagram


def test_words_are_marked_against_the_nearest_reference() -> None:
    """A word is right where it stands in the longest common order of words."""
    assert mark_words("A X B", ["B B B", "A B"]) == [("A", True), ("X", False), ("B", True)]
    assert mark_words("", "A") == []
    assert mark_words("A", []) == [("A", False)]


def test_a_falling_curve_falls_and_single_points_are_left_out() -> None:
    """The first step lies left of the last, the higher value above the lower."""
    drawn = line_chart({"loss": [(0, 4.0), (10, 1.0)], "alone": [(0, 1.0)]})
    assert drawn is not None
    (line,) = drawn.lines
    (left, high), (right, low) = (map(float, point.split(",")) for point in line.points.split())
    assert (line.name, line.first, line.last) == ("loss", 4.0, 1.0)
    assert left < right
    assert high < low  # SVG counts from the top
    assert line_chart({}) is None


def test_a_reliability_diagram_begins_with_its_diagonal() -> None:
    """From corner to corner; systems with one bin are left out."""
    drawn = reliability_diagram({"student": [(0.25, 0.5), (0.951, 0.813)], "one": [(0.5, 0.5)]})
    assert drawn is not None
    ideal, student = drawn.lines
    assert ideal.points == "56.0,208.0 624.0,12.0"
    assert (student.name, round(student.first, 3), round(student.last, 3)) == ("student", 50.0, 81.3)
    assert reliability_diagram({"one": [(0.5, 0.5)]}) is None


def test_a_dearer_system_lies_right_and_labels_do_not_overlap() -> None:
    """A better one lies higher, between the ends of its interval; only drawn ones have no label."""
    values = {"big": (60.0, 59.0, 61.0), "small": (48.0, 47.0, 49.0), "old": (48.0, 47.0, 49.0)}
    big, small, old = cost_chart({"big": 8.0, "small": 2.0, "old": 4.0}, values, others=["old"]).dots
    assert big.x > small.x
    assert big.y < small.y
    assert big.high < big.y < big.low
    assert (big.named, small.named, old.named, old.other) == (True, True, False, True)
    near = {"one": (60.0, 59.0, 61.0), "two": (60.1, 59.0, 61.0)}
    assert [dot.named for dot in cost_chart({"one": 8.0, "two": 8.0}, near).dots] == [True, False]
