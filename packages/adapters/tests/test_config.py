"""Settings refuse what cannot be, and the package and its settings load nothing heavy."""

import importlib
import pickle
import subprocess
import sys
from typing import Any

import pytest

from distill_adapters import AdapterConfig, DecodingConfig, TrainConfig
from distill_adapters.config import check_task

# Its names are found at run time; the stub beside it is what mypy reads.
distill_adapters: Any = importlib.import_module("distill_adapters")


def test_importing_loads_nothing_heavy() -> None:
    """Nor do the settings: a run file is checked before torch is imported."""
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
    ("values", "said"),
    [
        ({"steps": 10, "epochs": 1.0}, "give one"),
        ({"steps": 0}, "steps = 0"),
        ({"batch_size": -1}, "batch_size = -1"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"warmup": 1.0}, "below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"max_grad_norm": -1.0}, "max_grad_norm"),
    ],
)
def test_settings_that_cannot_train_are_refused(values: dict[str, Any], said: str) -> None:
    """Naming field and value."""
    with pytest.raises(ValueError, match=said):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"kind": "lore"}, "lora, qlora"), ({"rank": 0}, "rank = 0"), ({"dropout": 1.0}, "dropout")],
)
def test_adapters_that_cannot_be_are_refused(values: dict[str, Any], said: str) -> None:
    """Naming field and value."""
    with pytest.raises(ValueError, match=said):
        AdapterConfig(**values)


@pytest.mark.parametrize("name", ["max_new_tokens", "beams", "batch_size"])
def test_generation_needs_at_least_one_of_each(name: str) -> None:
    """Of tokens, beams and texts."""
    with pytest.raises(ValueError, match=f"{name} = 0"):
        DecodingConfig(**{name: 0})


def test_tasks_are_three() -> None:
    """A known one comes back; another is refused with what is allowed."""
    assert check_task("masked") == "masked"
    with pytest.raises(ValueError, match="'seq2seq_lm' was asked for; there are causal, seq2seq, masked"):
        check_task("seq2seq_lm")


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
    again = pickle.loads(pickle.dumps(kind("why")))  # noqa: S301 - our own bytes
    assert (type(again), str(again)) == (kind, "why")
