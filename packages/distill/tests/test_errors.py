"""Errors carry what is wrong as data, and survive a process boundary."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_kd import (
    CacheConfig,
    CachedTeacher,
    CacheMismatchError,
    ConfigError,
    DistillConfig,
    DistillError,
    LiveTeacher,
    Objective,
    ServedTeacher,
    ShapeError,
    WorseTeacherError,
    errors,
    forward_kl,
    generate_teacher,
    write_cache,
)


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        (DistillConfig, {"kd_weight": 2.0}, ("kd_weight", 2.0, (), 1.0)),
        (DistillConfig, {"kd_weight": -1.0}, ("kd_weight", -1.0, (), 0.0)),
        (DistillConfig, {"temperature": 0.0}, ("temperature", 0.0, (), 1.0)),
        (DistillConfig, {"alpha": 1.0}, ("alpha", 1.0, (), 0.1)),
        (DistillConfig, {"beta": 0.0}, ("beta", 0.0, (), 0.5)),
        (DistillConfig, {"divergence": "alpha_beta", "beta": -1.0}, ("beta", -1.0, (), 0.7)),
        (DistillConfig, {"k": 0}, ("k", 0, (), 1)),
        (DistillConfig, {"labels": "dat"}, ("labels", "dat", ("data", "teacher"), "data")),
        (CacheConfig, {"epochs": 0}, ("epochs", 0, (), 1)),
        (CacheConfig, {"max_kl_error": 0.0}, ("max_kl_error", 0.0, (), None)),
        (CacheConfig, {"k": 4, "max_kl_error": 0.1}, ("k", 4, (), None)),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_accepted(
    config: Any, arguments: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """Field, value, accepted values and a suggestion, which is itself accepted."""
    with pytest.raises(ConfigError) as caught:
        config(**arguments)
    error = caught.value
    assert (error.field, error.found, error.allowed, error.suggestion) == expected
    assert isinstance(error, ValueError)
    if error.suggestion is not None:
        config(**{**arguments, str(error.field): error.suggestion})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"task": "seq2sec"}, ("task", "seq2sec", "seq2seq")),
        ({"label_smoothing": 1.0}, ("label_smoothing", 1.0, 0.0)),
        ({"vocab_size": 0}, ("vocab_size", 0, 1)),
        ({"budget_bytes": 0}, ("budget_bytes", 0, 1)),
    ],
)
def test_an_objective_names_its_wrong_argument(
    arguments: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """As a configuration does."""
    with pytest.raises(ConfigError) as caught:
        Objective(**{"task": "causal", **arguments})
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == expected


def test_a_cache_names_what_differs(make_model: Any, make_rows: Any, collate: Any, tmp_path: Path) -> None:
    """A field of the configuration, of the fingerprint, or of the objective."""
    live, rows = LiveTeacher(make_model("GPT2")), make_rows("causal")

    def write(k: int) -> None:
        write_cache(
            live,
            rows,
            collate,
            tmp_path / "cache",
            task="causal",
            config=CacheConfig(k=k),
            data_fingerprint={"data": "one"},
        )

    write(4)
    with pytest.raises(CacheMismatchError) as caught:
        write(5)
    error = caught.value
    assert (error.field, error.found, error.allowed, error.suggestion) == ("k", 5, (4,), 4)
    with pytest.raises(CacheMismatchError) as caught:
        CachedTeacher(tmp_path / "cache", expected={"data": "two"})
    assert (caught.value.field, caught.value.found, caught.value.allowed) == ("data", "two", ("one",))
    with pytest.raises(CacheMismatchError) as caught:
        CachedTeacher(tmp_path / "cache").check_objective(Objective("causal", temperature=2.0))
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == ("temperature", 2.0, 1.0)


def test_arguments_of_functions_are_named(make_model: Any, make_tokenizer: Any) -> None:
    """Shapes, counts, names and addresses."""
    with pytest.raises(ShapeError) as shape:
        forward_kl(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), mask=torch.ones(1, 3, dtype=torch.bool))
    assert (shape.value.field, shape.value.found, shape.value.allowed) == ("mask", (1, 3), ((1, 2),))
    with pytest.raises(ConfigError) as caught:
        list(generate_teacher(make_model("Llama"), make_tokenizer(), [], task="causal", chunk_rows=0))
    assert (caught.value.field, caught.value.suggestion) == ("chunk_rows", 1)
    for arguments, field, suggestion in (
        ({"url": "localhost:1"}, "url", "http://localhost:1"),
        ({"interface": "vlm"}, "interface", "vllm"),
        ({"k": 0}, "k", 1),
    ):
        given: dict[str, Any] = {"url": "http://localhost:1", "model": "m", **arguments}
        with pytest.raises(ConfigError) as caught:
            ServedTeacher(tokenizer=make_tokenizer(), **given)
        assert (caught.value.field, caught.value.suggestion) == (field, suggestion)


def test_errors_can_be_pickled() -> None:
    """With message and data, whatever the built-in they also are."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DistillError)
    ]
    assert len(kinds) > 5
    for kind in kinds:
        error: Any = kind("a message")
        error.field, error.found = "k", 3
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
        assert (type(again), str(again), again.field, again.found) == (kind, "a message", "k", 3)
    worse = pickle.loads(pickle.dumps(WorseTeacherError("no", teacher=2.0, student=1.0)))  # noqa: S301 - made here
    assert (worse.teacher, worse.student, worse.field) == (2.0, 1.0, "teacher")
