"""What waits for what, how many jobs run at once, and how long all of it is said to take."""

from pathlib import Path

import pytest

from distill_app_trainer import check_run, read_run_file
from distill_app_trainer.plan.eta import Forecast
from distill_app_trainer.plan.plan import RunPlan, make_plan
from distill_app_trainer.plan.schedule import jobs_of, ready, side_by_side, waits_for


@pytest.fixture
def plan(workplace: Path) -> RunPlan:
    """The plan of ``tiny.toml`` with two jobs at once."""
    config = read_run_file(workplace / "tiny.toml", ["hardware.parallel_stages=2"])
    return make_plan(config, check_run(config))


def test_a_stage_waits_for_the_stages_that_it_names_and_a_report_for_all(plan: RunPlan) -> None:
    """Through models, data, stored distributions and systems."""
    config = plan.config
    assert waits_for(config, "teacher") == set()
    assert waits_for(config, "stored") == {"teacher", "labels"}
    assert waits_for(config, "student") == {"stored", "labels"}
    assert waits_for(config, "scores") == {"teacher", "student", "baseline"}
    assert waits_for(config, "report") == set(config.stages) - {"report"}


def test_jobs_begin_when_all_they_wait_for_is_finished(plan: RunPlan) -> None:
    """A stage with two seeds is two jobs, and whoever waits for it waits for both."""
    jobs = jobs_of(plan.config)
    assert [job.system for job in ready(plan.config, jobs, ())] == ["teacher", "baseline", "baseline_seed2"]
    finished = ("teacher", "labels", "stored", "student", "baseline")
    waiting = [job for job in jobs if job.system not in finished]
    assert [job.system for job in ready(plan.config, waiting, finished)] == ["baseline_seed2", "edge"]


def test_only_stages_with_company_ask_to_share_the_machine(plan: RunPlan) -> None:
    """Teacher and both baselines are equally far from the start; scores wait for everybody."""
    assert {name: side_by_side(plan.config, name) for name in ("teacher", "student", "scores")} == {
        "teacher": 3,
        "student": 3,
        "scores": 1,
    }
    assert plan.slots == 2


def test_stored_distributions_serve_the_rows_that_they_were_stored_for(workplace: Path) -> None:
    """A distill stage with other data than its store is refused before anything is loaded."""
    with pytest.raises(ValueError, match=r"stages\.stored caches distributions over train, labels"):
        check_run(read_run_file(workplace / "tiny.toml", ['stages.student.data="train"']))


def test_the_forecast_of_a_steady_run_comes_early_and_is_right(plan: RunPlan) -> None:
    """Every step takes a second and every row a tenth; the sum is known as soon as both were watched."""
    now, said = 0.0, list[tuple[float, float]]()
    forecast = Forecast(
        plan,
        {"train": 48, "validation": 8, "test": 24, "spellings": 100},
        lambda seconds: said.append((now, seconds)),
        clock=lambda: now,
    )
    forecast.stage("teacher", "finetune", 1, 8)
    forecast.stage("baseline", "finetune", 5, 8)
    for step in range(1, 13):
        now += 1.0
        forecast.progress("teacher", {"step": step, "total_steps": 12})
        if step <= 3:
            forecast.progress("baseline", {"step": step, "total_steps": 3})
    assert said == []  # nobody has labelled anything yet
    forecast.stage_done("teacher", "", 12.0)
    forecast.stage_done("baseline", "", 3.0)
    forecast.stage("labels", "pseudo_label", 2, 8)
    for row in range(1, 101):
        now += 0.1
        forecast.progress("labels", {"step": row, "total_steps": 100})
    ((when, seconds),) = said
    assert 12 + 3 <= when < 12 + 4
    left = seconds - when
    sizes = {name: facts.parameters for name, facts in plan.facts.items()}
    small = sizes["small"] / sizes["big"]
    stored, student, scores, edge = 14.8, 4 * 16 / 16 * small, 2.4 * (1 + 3 * small), 2.4 * small
    assert left == pytest.approx(100 * 0.1 - (when - 12) + stored + student + scores, abs=edge + 3)
