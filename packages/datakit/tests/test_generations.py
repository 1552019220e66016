"""Teacher generations: resumable, checked, read as training rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_datakit import DataError, existing_ids, read_generations, write_generations


def rows(*ids: int) -> Iterator[dict[str, object]]:
    """Generations with these ids."""
    for n in ids:
        yield {"id": n, "input": f"in {n}", "output": f"out {n}\u2028", "score": -0.5 * n}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_writing_again_adds_what_is_missing(tmp_path: Path, suffix: str) -> None:
    """Ids already there are left out, also twice in one call."""
    path = tmp_path / "new" / f"labels{suffix}"
    assert existing_ids(path) == set()
    assert write_generations(rows(0, 1, 1), path) == 2
    assert write_generations(rows(1, 2), path) == 1
    assert write_generations(rows(1, 2), path) == 0
    assert existing_ids(path) == {0, 1, 2}
    data = read_generations(path)
    assert list(data) == [{"source": f"in {n}", "target": f"out {n}\u2028"} for n in range(3)]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_interruption_anywhere_is_resumed(tmp_path: Path) -> None:
    """The file cut at every byte ends up as if it had been written in one go."""
    path = tmp_path / "labels.jsonl"
    write_generations(rows(0, 1, 2), path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        write_generations(rows(0, 1, 2), path)
        assert path.read_bytes() == whole, cut


def test_a_failing_source_of_rows_leaves_what_it_gave(tmp_path: Path) -> None:
    """JSONL rows are on disk as soon as they come."""

    def failing() -> Iterator[dict[str, object]]:
        yield from rows(0, 1)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        write_generations(failing(), tmp_path / "a.jsonl")
    assert existing_ids(tmp_path / "a.jsonl") == {0, 1}


def test_what_is_no_generation_is_refused(tmp_path: Path) -> None:
    """Missing or wrong fields, damaged lines in the middle, another kind of file, mixed ids in Parquet."""
    path = tmp_path / "a.jsonl"
    with pytest.raises(DataError, match="row 1, field 'output': missing"):
        write_generations([{"id": 1, "input": "a", "score": 0.0}], path)
    with pytest.raises(DataError, match="field 'score': 'x' is not a number"):
        write_generations([{"id": 1, "input": "a", "output": "b", "score": "x"}], path)
    with pytest.raises(DataError, match=r"\.jsonl or \.parquet"):
        write_generations(rows(1), tmp_path / "a.csv")
    with pytest.raises(DataError, match="one type"):
        write_generations(
            [{**row, "id": i} for row, i in zip(rows(1, 2), (1, "x"), strict=True)], tmp_path / "b.parquet"
        )
    path.write_text('{"id": 1\n{"id": 2, "input": "a", "output": "b", "score": null}\n', encoding="utf-8")
    with pytest.raises(DataError, match="row 1: not valid JSON"):
        existing_ids(path)
    path.write_text('{"id": 2, "input": "a", "output": " ", "score": null}\n', encoding="utf-8")
    with pytest.raises(DataError, match="none of 1 generations"):
        read_generations(path)
    with pytest.raises(DataError, match="no such file"):
        read_generations(tmp_path / "none.jsonl")
