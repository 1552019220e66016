"""The line that describes a running training."""

from distill_adapters.throughput import Throughput, sparkline


def test_words_say_parts_course_rate_memory_and_time_left() -> None:
    """A clock of one second a step of a hundred tokens, at step 5 of 65."""
    now = iter(range(100))
    rate = Throughput(clock=lambda: float(next(now)))
    for step in range(1, 6):
        facts = {"step": step, "loss": 6.0 - step, "ce": 1.5, "kd": 0.5, "tokens": 100, "memory_bytes": 2e9}
        rate.take(facts)
    assert rate.words(facts) == "loss 1.000  ce 1.500  kd 0.500  █▆▅▃▁  100 tokens/s  2.0 GB"
    assert rate.left(5, 65) == "1:00 left"


def test_little_is_said_before_anything_is_known() -> None:
    """No rate from one step, and no loss of a stage that has none."""
    rate = Throughput()
    rate.take({"step": 1, "total_steps": 9})
    assert rate.words({"step": 1}) == ""
    assert rate.left(1, 9) == ""


def test_a_sparkline_is_as_wide_as_there_is_room_and_flat_where_nothing_changes() -> None:
    """Many values share a bar; a value that is not finite draws nothing."""
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert len(sparkline([float(number) for number in range(1000)])) == 12
    assert sparkline([1.0, 1.0]) == sparkline([1.0, float("nan")]) == "▁▁"
