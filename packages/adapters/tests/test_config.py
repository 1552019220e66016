"""Configurations refuse what cannot be, and neither they nor the package load anything heavy."""

import importlib
import pickle
import subprocess
import sys
from typing import Any

import pytest

from distill_adapters import AdapterConfig, ConfigError, DecodingConfig, TrainConfig
from distill_adapters.config import check_task

# Its names are found at run time; the stub beside it is what mypy reads.
distill_adapters: Any = importlib.import_module("distill_adapters")


def test_importing_loads_nothing_heavy() -> None:
    """Nor do the configurations: a run file is checked before torch is imported."""
    heavy = ("torch", "transformers", "datasets", "peft")
    code = (
        "import sys, distill_adapters as a; a.TrainConfig(); a.AdapterConfig(); a.DecodingConfig(); "
        f"a.__version__; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    """And an unknown one is an AttributeError."""
    assert all(getattr(distill_adapters, name) is not None for name in distill_adapters.__all__)
    assert set(distill_adapters.__all__) <= set(dir(distill_adapters))
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = distill_adapters.nothing


@pytest.mark.parametrize(
    ("values", "field", "suggestion"),
    [
        ({"steps": 10, "epochs": 1.0}, "epochs", None),
        ({"steps": 0}, "steps", None),
        ({"batch_size": -1}, "batch_size", 32),
        ({"learning_rate": 0.0}, "learning_rate", 1e-4),
        ({"warmup": 1.0}, "warmup", 0.0),
        ({"label_smoothing": -0.1}, "label_smoothing", 0.0),
        ({"weight_decay": -1.0}, "weight_decay", 0.0),
        ({"max_grad_norm": -1.0}, "max_grad_norm", 0.0),
        ({"save_every": 0}, "save_every", None),
    ],
)
def test_a_config_that_cannot_train_is_refused(
    values: dict[str, Any], field: str, suggestion: object
) -> None:
    """With the field to change, its value, and one that would be accepted."""
    with pytest.raises(ConfigError, match=field) as caught:
        TrainConfig(**values)
    error = caught.value
    assert (error.field, error.found, error.suggestion) == (field, values[field], suggestion)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("values", "suggestion"),
    [({"kind": "lore"}, "lora"), ({"rank": 0}, 1), ({"alpha": -3}, 1), ({"dropout": 1.0}, 0.0)],
)
def test_adapters_that_cannot_be_are_refused(values: dict[str, Any], suggestion: object) -> None:
    """With field, value and suggestion; an unknown kind also with those that exist."""
    with pytest.raises(ConfigError) as caught:
        AdapterConfig(**values)
    error = caught.value
    assert ({error.field: error.found}, error.suggestion) == (values, suggestion)
    assert error.allowed == (("lora", "qlora", "ia3", "miss") if "kind" in values else ())


@pytest.mark.parametrize("name", ["max_new_tokens", "beams", "batch_size"])
def test_generation_needs_at_least_one_of_each(name: str) -> None:
    """Of tokens, beams and texts."""
    with pytest.raises(ConfigError, match=f"{name} = 0") as caught:
        DecodingConfig(**{name: 0})
    assert (caught.value.field, caught.value.suggestion) == (name, 1)


def test_tasks_are_three() -> None:
    """A known one comes back; another is refused with what is allowed."""
    assert check_task("masked") == "masked"
    with pytest.raises(ConfigError) as caught:
        check_task("seq2seq_lm")
    assert (caught.value.field, caught.value.found) == ("task", "seq2seq_lm")
    assert (caught.value.allowed, caught.value.suggestion) == (("causal", "seq2seq", "masked"), "seq2seq")


@pytest.mark.parametrize(
    "name",
    # TrainingStoppedError carries where it stopped; test_stopping.py pickles it.
    [n for n in distill_adapters.__all__ if n.endswith("Error") and n != "TrainingStoppedError"],
)
def test_errors_are_built_ins_and_travel(name: str) -> None:
    """Each is this package's and a built-in too, and survives pickling between processes."""
    kind = getattr(distill_adapters, name)
    assert issubclass(kind, distill_adapters.AdapterError)
    if name != "AdapterError":
        assert issubclass(kind, ValueError | RuntimeError | ArithmeticError)
    error = kind("why", field="a.b", found=1, allowed=[2, 3], suggestion=2)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again)) == (kind, "why")
    assert (again.field, again.found, again.allowed, again.suggestion) == ("a.b", 1, (2, 3), 2)
