"""Errors carry what is wrong as data."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from distill_deploy import (
    ArgumentError,
    Decoding,
    DeployError,
    ExportError,
    ExportRefusedError,
    MissingExtraError,
    export,
    export_path,
    load_runtime,
)


@pytest.mark.parametrize(
    "error",
    [
        ExportError("no", field="format", found="oxnx", allowed=("onnx",), suggestion="onnx"),
        ArgumentError("no", field="beams", found=0, suggestion=1),
        ExportRefusedError("no", rate=0.9, min_agreement=0.99),
        MissingExtraError("no", extra="onnx"),
    ],
)
def test_an_error_survives_pickling(error: DeployError) -> None:
    """As it has to, to come from a worker: its message and all of its data."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on the line above
    assert (str(again), vars(again)) == ("no", vars(error))


def test_a_path_that_is_not_there_suggests_one() -> None:
    """The argument, what was given, what is allowed, and the nearest of it."""
    for given, field, suggestion in (
        ({"format": "onx"}, "format", "onnx"),
        ({"precision": "int9"}, "precision", "int8"),
        ({"exporter": "optimun"}, "exporter", "optimum"),
        ({"exporter": "own", "isolated": True}, "isolated", False),
    ):
        with pytest.raises(ExportError) as refused:
            export_path("masked", **given)
        assert (refused.value.field, refused.value.found) == (field, given[field])
        assert refused.value.suggestion == suggestion
        assert suggestion in refused.value.allowed


@pytest.mark.parametrize(
    ("given", "field", "suggestion"),
    [
        ({"beams": 0}, "beams", 1),
        ({"temperature": -1.0}, "temperature", 0.0),
        ({"temperature": 1.0, "top_k": -1}, "top_k", 0),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p", 1.0),
        ({"temperature": 1.0, "beams": 2}, "beams", 1),
        ({"top_k": 5}, "temperature", 1.0),
    ],
)
def test_a_wrong_decoding_suggests_a_value(given: dict[str, float], field: str, suggestion: float) -> None:
    """The suggested value in place of the wrong one is accepted."""
    with pytest.raises(ArgumentError) as refused:
        Decoding(**given)  # type: ignore[arg-type]  # of two types
    assert (refused.value.field, refused.value.suggestion) == (field, suggestion)
    Decoding(**{**given, field: suggestion})  # type: ignore[arg-type]  # of two types


def test_arguments_of_loading_and_exporting_are_named(tmp_path: Path) -> None:
    """Before anything is read: threads, held_out, references."""
    with pytest.raises(ArgumentError) as wrong:
        load_runtime(tmp_path, threads=0)
    assert (wrong.value.field, wrong.value.found, wrong.value.suggestion) == ("threads", 0, 1)
    with pytest.raises(ExportError) as refused:
        export(tmp_path, tmp_path / "e", held_out=[])
    assert refused.value.field == "held_out"
    with pytest.raises(ExportError) as refused:
        export(tmp_path, tmp_path / "e", held_out=["a"], metric=lambda _said, _right: (0.0, 0.0, 0.0))
    assert refused.value.field == "references"
