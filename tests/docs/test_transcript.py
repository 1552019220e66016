"""The quickstart's output in the README."""

import transcript


def test_the_readme_shows_the_recorded_run() -> None:
    """`python tools/transcript.py` writes it from benchmarks/results/quickstart.txt."""
    readme = transcript.README.read_text(encoding="utf-8")
    recorded = transcript.RECORDED.read_text(encoding="utf-8")
    assert readme == transcript.with_transcript(readme, transcript.shortened(recorded))


def test_a_shape_holds_what_machines_have_in_common() -> None:
    """Figures and run names differ from run to run, stages and systems do not."""
    first = (
        "[1/7] labels (label)\n      labels: step 5/9\n│ baseline │ 0.62 M │ 9 [8, 10] % │\nNext: q-12ab34/e"
    )
    second = "[1/7] labels (label)\n│ baseline │ 0.70 M │ 19.22 [8, 10] % │\nNext: q-98fe76-2/e"
    assert transcript.shape(first) == transcript.shape(second) != transcript.shape("[1/7] labels (cache)")
