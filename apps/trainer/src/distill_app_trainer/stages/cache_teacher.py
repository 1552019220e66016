"""The stage ``cache_teacher``: write a model's distributions over the rows that a later stage learns from."""

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import CacheResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import CacheTeacherStage
from distill_app_trainer.stages.training import collator_of, tokenized


def run(context: RunContext, job: Job, stage: CacheTeacherStage) -> str:
    """Write ``data/NAME``."""
    from datasets import concatenate_datasets

    from distill_adapters import set_threads
    from distill_kd import LiveTeacher, write_cache

    policy = context.plan.policies[job.stage]
    set_threads(policy)
    loaded = context.load(stage.model, policy)
    data = tokenized(context, stage.data, loaded.tokenizer)
    report = write_cache(
        LiveTeacher(loaded.model, tokenizer=loaded.tokenizer),
        concatenate_datasets(list(data.data.values())),
        collator_of(context, loaded, context.plan.config.run.seed),
        context.folder.cache(job.stage),
        task=context.plan.task,
        config=stage.cache,
        data_fingerprint=data.fingerprint,
        on_progress=lambda facts: context.display.progress(job.stage, facts),
    )
    context.results.stages[job.stage] = CacheResult(
        rows=report.rows,
        tokens=report.tokens,
        bytes=report.size_bytes,
        bytes_per_token=report.bytes_per_token,
        k=report.k,
        kl_error=report.kl_error,
    )
    return str(report)
