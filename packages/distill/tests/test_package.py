"""Importing is cheap, and settings refuse what cannot work."""

import subprocess
import sys
from functools import partial

import pytest
import torch

import distill_kd
from distill_kd import DenseTarget, DistillConfig, Divergence, Objective, jensen_shannon


def test_import_and_settings_load_nothing_heavy() -> None:
    """Run files are checked before torch is there."""
    code = (
        "import sys, distill_kd; distill_kd.DistillConfig(divergence='reverse_kl');"
        "distill_kd.VocabularyError; distill_kd.__version__;"
        "print(sorted({'torch', 'transformers', 'datasets', 'accelerate', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    """``__all__`` holds nothing that cannot be had, nor what is left out of it on purpose."""
    for name in dir(distill_kd):
        assert getattr(distill_kd, name) is not None
    assert set(vars(distill_kd)["__all__"]) == set(dir(distill_kd))
    assert callable(distill_kd.chunked_divergence), "no module may take the name of a function"
    for hidden in ("nothing", "head_of", "Verdict", "TASKS", "LABELS"):
        with pytest.raises(AttributeError):
            getattr(distill_kd, hidden)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kd_weight": 2}, "0 to 1"),
        ({"temperature": -1}, "must be positive"),
        ({"divergence": "jenson_shannon"}, "Did you mean jensen_shannon"),
        ({"divergence": "x"}, "alpha_beta, forward_kl, jensen_shannon"),
        ({"beta": 1}, "between 0 and 1"),
    ],
)
def test_settings_outside_their_range_are_refused(arguments: dict[str, float | str], message: str) -> None:
    """With what is allowed and the nearest right spelling."""
    with pytest.raises(ValueError, match=message):
        DistillConfig(**arguments)  # type: ignore[arg-type]  # one wrong value at a time


def test_a_config_becomes_an_objective() -> None:
    """Weight, temperature and the mixture's share all arrive."""
    config = DistillConfig(kd_weight=1, temperature=2, divergence="jensen_shannon", beta=0.2)
    student, teacher = torch.randn(2, 1, 3, 7, generator=torch.Generator().manual_seed(0))
    parts = Objective.from_config(config, "masked")(
        student, DenseTarget(teacher), torch.tensor([[1, 2, 3]]), num_items=3
    )
    mask = torch.ones(1, 3, dtype=torch.bool)
    pure = jensen_shannon(student, teacher, mask=mask, temperature=2, beta=0.2)
    assert parts.total.item() == pytest.approx(4 * pure.item() / 3)
    assert Objective.from_config(DistillConfig(), "causal") == Objective("causal")


def test_a_divergence_keeps_its_own_arguments_unless_they_are_given() -> None:
    """The exponents of ``alpha_beta`` are not a mixture's shares."""
    plain = Objective.from_config(DistillConfig(divergence="alpha_beta"), "causal")
    assert plain.divergence == "alpha_beta"
    given = Objective.from_config(DistillConfig(divergence="alpha_beta", alpha=1.5), "causal").divergence
    assert isinstance(given, Divergence)
    assert isinstance(given.function, partial)
    assert given.function.keywords == {"alpha": 1.5}
