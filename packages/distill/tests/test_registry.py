"""A package that is installed adds a divergence by name, and it is used like a built-in one."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_kd import (
    CacheConfig,
    CachedTeacher,
    CacheMismatchError,
    ConfigError,
    DistillationTrainer,
    DistillConfig,
    Divergence,
    HiddenTarget,
    LiveTeacher,
    Objective,
    OutputHead,
    chunked_divergence,
    divergence_names,
    write_cache,
)
from distill_kd.registry import installed_divergence

PLUGIN = """
from distill_kd import Divergence

def hellinger(student_logits, teacher_logits, *, mask, temperature=1.0):
    student, teacher = ((each / temperature).softmax(-1) for each in (student_logits, teacher_logits))
    return (0.5 * (student.sqrt() - teacher.sqrt()).square().sum(-1))[mask].sum()

def power(student_logits, teacher_logits, *, mask, temperature=1.0, alpha=1.0, order=2.0):
    if order <= 0:
        raise ValueError(f"order = {order} was asked for; it must be positive.")
    difference = (student_logits - teacher_logits).abs() / temperature
    return alpha * difference.pow(order).sum(-1)[mask].sum()

HELLINGER = Divergence(name="hellinger", function=hellinger)
POWER = Divergence(
    name="power",
    function=power,
    needs_all_logits=True,
    scales_with_temperature=False,
    arguments=("alpha", "order"),
)
"""
ENTRY_POINTS = """[distill_kd.divergences]
hellinger = kd_plugin:HELLINGER
power = kd_plugin:POWER
broken = kd_plugin:NOTHING
wrong = kd_plugin:hellinger
"""


@pytest.fixture(name="site", autouse=True)
def _site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with a module and what an installed package says about itself."""
    place = tmp_path / "site"
    info = place / "kd_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "kd_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kd-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(place)
    installed_divergence.cache_clear()
    yield place
    installed_divergence.cache_clear()
    sys.modules.pop("kd_plugin", None)


def by_hand(student: Tensor, teacher: Tensor) -> float:
    """Squared Hellinger distance over all positions, one less the Bhattacharyya coefficient, in float64."""
    overlap = (student.double().softmax(-1) * teacher.double().softmax(-1)).sqrt().sum(-1)
    return float((1 - overlap).sum())


def logits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weights of the student's head, its logits, and the teacher's logits."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(2, 3, 4, generator=draw), torch.randn(7, 4, generator=draw)
    return hidden.requires_grad_(), weight, hidden.detach() @ weight.T, torch.randn(2, 3, 7, generator=draw)


def test_a_registered_divergence_is_used_by_name() -> None:
    """In a configuration, in an objective, and chunk by chunk, where autograd differentiates it."""
    hidden, weight, student, teacher = logits()
    mask = torch.ones(2, 3, dtype=torch.bool)
    target = HiddenTarget(teacher, lambda given: given)
    loss = chunked_divergence(
        hidden, OutputHead((weight,)), target, mask=mask, divergence="hellinger", budget_bytes=60
    )
    assert loss.item() == pytest.approx(by_hand(student, teacher), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    leaf = hidden.detach().double().requires_grad_()
    function = installed_divergence("hellinger").function
    full = function(leaf @ weight.double().T, teacher.double(), mask=mask, temperature=1.0)
    torch.testing.assert_close(hidden.grad, torch.autograd.grad(full, leaf)[0].float(), rtol=1e-4, atol=1e-6)
    objective = Objective.from_config(DistillConfig(divergence="hellinger", kd_weight=1.0), "masked")
    assert objective == Objective("masked", divergence="hellinger", kd_weight=1.0)
    parts = objective.from_hidden(
        hidden, OutputHead((weight,)), target, torch.ones(2, 3, dtype=torch.int64), num_items=6
    )
    assert parts.kd.item() == pytest.approx(by_hand(student, teacher) / 6, rel=1e-5)
    assert pickle.loads(pickle.dumps(objective)) == objective  # noqa: S301 - made here


def test_a_wrong_name_is_answered_with_the_nearest_of_all() -> None:
    """Names of installed packages are among those that are allowed."""
    with pytest.raises(ConfigError) as caught:
        DistillConfig(divergence="helinger")
    error = caught.value
    assert (error.field, error.found, error.suggestion) == ("divergence", "helinger", "hellinger")
    assert error.allowed == divergence_names()
    assert {"hellinger", "forward_kl"} <= set(divergence_names())
    with pytest.raises(ConfigError) as caught:
        Objective("causal", divergence="forward_lk")
    assert caught.value.suggestion == "forward_kl"


def test_arguments_arrive_and_are_checked() -> None:
    """``alpha`` from its own field, others by name; one that is not declared is refused at once."""
    _, _, student, teacher = logits()
    config = DistillConfig(
        divergence="power", alpha=3.0, divergence_arguments={"order": 1.0}, kd_weight=1.0, temperature=2.0
    )
    parts = Objective.from_config(config, "masked")._parts(
        student, None, HiddenTarget(teacher, lambda given: given), torch.ones(2, 3, dtype=torch.int64), 6
    )
    expected = 3 * (student - teacher).abs().sum() / 2 / 6  # not times the square of the temperature
    assert parts.kd.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ConfigError) as caught:
        DistillConfig(divergence="power", divergence_arguments={"ordr": 1.0})
    assert (caught.value.field, caught.value.found) == ("divergence_arguments", "ordr")
    assert (caught.value.allowed, caught.value.suggestion) == (("alpha", "order"), "order")
    with pytest.raises(ValueError, match="must be positive"):
        Objective.from_config(
            DistillConfig(divergence="power", divergence_arguments={"order": -1.0}), "masked"
        )
    with pytest.raises(ConfigError) as caught:
        DistillConfig(divergence="skew_kl", divergence_arguments={"alpha": 0.3})
    assert (caught.value.field, caught.value.found) == ("divergence_arguments", "alpha")


@pytest.mark.parametrize("name", ["broken", "wrong"])
def test_what_is_not_a_divergence_is_refused(name: str) -> None:
    """A name that cannot be imported, or is registered for something else."""
    with pytest.raises(ConfigError) as caught:
        Objective("causal", divergence=name)
    assert (caught.value.field, caught.value.found) == ("divergence", name)
    assert "kd_plugin:" in str(caught.value)


@pytest.mark.parametrize("divergence", ["power", "logit_mse"])
def test_a_truncated_cache_is_refused_before_the_first_step(
    divergence: str, make_model: Any, make_rows: Any, make_arguments: Any, collate: Any, tmp_path: Path
) -> None:
    """Where the divergence needs all logits; a dense one serves it, and a truncated one the others."""
    rows, live = make_rows("causal"), LiveTeacher(make_model("GPT2", seed=1))
    for name, config in (("few", CacheConfig(k=4)), ("all", CacheConfig())):
        write_cache(live, rows, collate, tmp_path / name, task="causal", config=config)

    def make(cache: str, divergence: str) -> DistillationTrainer:
        return DistillationTrainer(
            make_model("GPT2"),
            teacher=CachedTeacher(tmp_path / cache),
            objective=Objective("causal", divergence=divergence),
            args=make_arguments(),
            train_dataset=rows,
            data_collator=collate,
        )

    with pytest.raises(CacheMismatchError) as caught:
        make("few", divergence)
    assert (caught.value.field, caught.value.found) == ("divergence", divergence)
    assert caught.value.suggestion == "forward_kl"
    assert make("all", divergence).train().global_step == 1
    assert make("few", "hellinger").train().global_step == 1


def test_an_uninstalled_one_is_passed_as_it_is() -> None:
    """A ``Divergence`` object goes where names go."""
    own = Divergence(name="own", function=installed_divergence("hellinger").function, needs_all_logits=True)
    assert Objective("causal", divergence=own).resolved is own


def test_built_in_names_ask_no_package(site: Path) -> None:
    """Installed packages are looked through only for a name that is not built in; torch stays away."""
    code = (
        "import sys, distill_kd; distill_kd.DistillConfig(divergence='reverse_kl');"
        "assert 'importlib.metadata' not in sys.modules, 'looked';"
        "distill_kd.DistillConfig(divergence='hellinger'); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(site)},
    )
    assert done.stdout.strip() == "False"
