"""Before the first step a run shows what it learns from, and stops at a teacher that knows no more."""

import logging
from typing import Any

import pytest
import torch
from torch import nn

from distill_adapters import NonFiniteError
from distill_kd import DistillationTrainer, LiveTeacher, Objective, WorseTeacherError


@pytest.fixture(name="make_trainer")
def _make_trainer(make_model: Any, make_rows: Any, make_arguments: Any, collate: Any) -> Any:
    """``make_trainer(arguments={}, **options)``: a tiny causal student, a teacher, and a validation set."""

    def make(*, arguments: dict[str, Any] | None = None, **options: Any) -> DistillationTrainer:
        given = {
            "model": make_model("GPT2"),
            "teacher": LiveTeacher(make_model("GPT2", seed=1)),
            "objective": Objective("causal"),
            "args": make_arguments(**(arguments or {})),
            "train_dataset": make_rows("causal"),
            "eval_dataset": make_rows("causal", seed=5),
            "data_collator": collate,
        }
        return DistillationTrainer(**{**given, **options})

    return make


def cross_entropy(trainer: DistillationTrainer, model: nn.Module, collate: Any) -> float:
    """A model's own validation loss."""
    batch = collate(list(trainer.eval_dataset))  # type: ignore[arg-type]  # rows
    del batch["row_id"]
    with torch.no_grad():
        return float(model(**batch).loss)


def test_a_row_is_shown_as_text(make_trainer: Any, make_tokenizer: Any, capsys: Any) -> None:
    """What the model reads and learns, decoded, and how many positions count, where progress is shown."""
    rows = [{"input_ids": [5, 6, 1], "attention_mask": [1] * 3, "labels": [-100, 6, 1], "row_id": 0}] * 4
    tokenizer = make_tokenizer()
    for quiet in (False, True):
        trainer = make_trainer(
            arguments={"disable_tqdm": quiet},
            train_dataset=rows,
            eval_dataset=None,
            processing_class=tokenizer,
        )
        trainer.train()
        shown = capsys.readouterr().err
        assert ("reads 'w2 w3 </s>', learns 'w3 </s>' (2 of 3 positions count)" in shown) is not quiet
        assert ("the teacher was not judged" in shown) is not quiet


def test_a_teacher_no_better_than_the_baseline_stops_the_run(make_trainer: Any, collate: Any) -> None:
    """Both figures are named, nothing is trained, and it goes on when told to."""
    trainer = make_trainer(baseline=0.5)
    teacher = cross_entropy(trainer, trainer.teacher.model, collate)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    with pytest.raises(
        WorseTeacherError, match=f"the teacher's {teacher:.4g} nats .* without a teacher 0.5"
    ) as caught:
        trainer.train()
    assert caught.value.teacher == pytest.approx(teacher, rel=1e-5)
    assert caught.value.student == 0.5
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())
    assert make_trainer(baseline=0.5, accept_worse_teacher=True).train().global_step == 1
    assert make_trainer(baseline=teacher + 0.01).train().global_step == 1


def test_a_student_that_the_learning_rate_breaks_is_not_blamed_on_its_teacher(make_trainer: Any) -> None:
    """The rate is named; the run ends before its first step."""
    with pytest.raises(NonFiniteError, match="nan after 1 steps on labels alone"):
        make_trainer(arguments={"learning_rate": 1e30}).train()


def test_the_baseline_is_the_student_after_a_tenth_of_the_steps_without_the_teacher(
    make_trainer: Any, caplog: Any
) -> None:
    """Measured on a copy: the run is the one that it would have been, losses bit for bit."""
    caplog.set_level(logging.INFO, logger="distill_kd.preflight")
    losses = []
    for options in ({"accept_worse_teacher": True}, {"eval_dataset": None}):
        trainer = make_trainer(arguments={"max_steps": 11, "per_device_train_batch_size": 1}, **options)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1]
    assert "after 2 steps on labels alone" in caplog.text


def test_a_resumed_run_ends_as_if_it_had_not_stopped(make_trainer: Any, tmp_path: Any) -> None:
    """Bit for bit, and its teacher is not judged again."""
    whole = make_trainer(arguments={"max_steps": 4, "output_dir": str(tmp_path / "whole")}, eval_dataset=None)
    whole.train()
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path / "run")}
    make_trainer(arguments=saving, eval_dataset=None).train()
    (tmp_path / "run" / "checkpoint-4").rename(tmp_path / "set aside")
    again = make_trainer(arguments=saving, baseline=0.1)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.model.state_dict().items())


@pytest.mark.parametrize("name", ["Bert", "GPT2"])
def test_hard_labels_are_the_teachers_likeliest_tokens(
    name: str, make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """Where there is a label, and only there; a masked model's too."""
    task: Any = "masked" if name == "Bert" else "causal"
    student, teacher = make_model(name), make_model(name, seed=1)
    batch = collate(make_rows(task))
    trainer = DistillationTrainer(
        student,
        teacher=LiveTeacher(teacher),
        objective=Objective(task, kd_weight=0.0, labels="teacher"),
        args=make_arguments(),
        data_collator=collate,
    )
    loss = trainer.compute_loss(student, batch)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hard = teacher(**inputs).logits.argmax(-1)
        logits = student(**inputs).logits
    labels = batch["labels"]
    if task == "causal":
        hard, logits, labels = hard[:, :-1], logits[:, :-1], labels[:, 1:]
    kept = labels != -100
    expected = nn.functional.cross_entropy(logits[kept], hard[kept])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_evaluation_lets_the_student_generate(make_trainer: Any, make_tokenizer: Any) -> None:
    """``scores`` is given the student, and what it finds stands among the metrics and in the log."""
    from distill_adapters import DecodingConfig, predict

    tokenizer = make_tokenizer()

    def scores(model: Any) -> dict[str, float]:
        made = predict(
            model, tokenizer, ["w1 w2", "w3"], task="causal", decoding=DecodingConfig(max_new_tokens=4)
        )
        return {"tokens": sum(map(len, made.ids))}

    trainer = make_trainer(scores=scores)
    metrics = trainer.evaluate()
    assert 0 <= metrics["eval_tokens"] <= 8
    assert any("eval_tokens" in entry for entry in trainer.state.log_history)
    assert "eval_kd" in metrics


def test_gradient_checkpointing_changes_nothing(make_trainer: Any) -> None:
    """The forward pass that ends at the head is recomputed as any other."""
    results = []
    for checkpointing in (False, True):
        trainer = make_trainer(
            arguments={"gradient_checkpointing": checkpointing, "max_steps": 2}, eval_dataset=None
        )
        trainer.train()
        results.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert results[1] == pytest.approx(results[0], rel=1e-6)


def test_logits_are_made_for_metrics_that_ask_for_them(make_trainer: Any) -> None:
    """``compute_metrics`` and ``predict`` see ``(rows, seq, vocab)``, with the same loss as without."""
    shapes = []

    def metrics(found: Any) -> dict[str, float]:
        shapes.append(found.predictions.shape)
        return {}

    with_logits = make_trainer(compute_metrics=metrics).evaluate()
    assert shapes[0][0] == 4
    assert shapes[0][-1] == 24
    without = make_trainer().evaluate()
    assert with_logits["eval_loss"] == pytest.approx(without["eval_loss"], rel=1e-6)
