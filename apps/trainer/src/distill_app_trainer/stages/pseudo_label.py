"""The stage ``pseudo_label``: a model answers texts, and the answers become data under the stage's name."""

from typing import TYPE_CHECKING

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import LabelResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import PseudoLabelStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distill_kd.generation import GeneratedRow

_SHOWN_EVERY = 50  # answered texts


def run(context: RunContext, job: Job, stage: PseudoLabelStage) -> str:
    """Write ``data/NAME.jsonl``; rows that an interrupted run wrote are kept."""
    from distill_adapters import DecodingConfig, set_threads
    from distill_datakit import existing_ids, inputs_of, read_generations, write_generations
    from distill_kd import generate_teacher

    name, policy = job.stage, context.plan.policies[job.stage]
    set_threads(policy)
    loaded = context.load(stage.model, policy)
    rows = [
        (f"{part}-{index}", text)
        for part in stage.uses_data()
        for index, text in enumerate(inputs_of(context.texts[part]))
    ]
    path = context.folder.labels(name)
    decoding = DecodingConfig(
        max_new_tokens=stage.max_new_tokens, beams=stage.beams, batch_size=stage.batch_size
    )
    made = generate_teacher(
        loaded.model,
        loaded.tokenizer,
        rows,
        task=context.plan.task,
        decoding=decoding,
        skip=existing_ids(path),
    )

    def counted() -> "Iterator[GeneratedRow]":
        for number, row in enumerate(made, start=1):
            if number % _SHOWN_EVERY == 0 or number == len(rows):
                context.display.progress(name, {"step": number, "total_steps": len(rows)})
            yield row

    count = write_generations(counted(), path)
    kept = len(read_generations(path))
    context.results.stages[name] = LabelResult(rows=count, kept=kept)
    return f"{count:,} texts labelled, {count - kept:,} answers were empty"
