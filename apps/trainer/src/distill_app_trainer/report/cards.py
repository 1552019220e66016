"""The model card of a system: its origin, and the figures that were measured."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters import is_hub_name
from distill_app_trainer.report.rendering import render
from distill_app_trainer.report.results import RunReport
from distill_app_trainer.runfile.hub import described

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

_PIPELINES = {"seq2seq": "text2text-generation", "causal": "text-generation", "masked": "fill-mask"}
_Row = tuple[str, str, str, str, str]


def model_card(report: RunReport, system: str, folder: Path, rows: Sequence[_Row]) -> "ModelCard":
    """The card of one model of a run.

    Args:
        report: The results of the run.
        system: The model.
        folder: Where it lies.
        rows: Rows of the report's table.

    Returns:
        A card of huggingface_hub: base model where the hub has it, tags, and every metric as an evaluation.
    """
    from huggingface_hub import ModelCard, ModelCardData

    made = _descent(tomllib.loads(report.run_file), system)
    adapter = (folder / "adapter_config.json").is_file()
    base = made.get("base")
    on_hub = base if isinstance(base, str) and is_hub_name(base) else None
    relation = "adapter" if adapter else "merge" if made.get("kind") == "merge" else "finetune"
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=_PIPELINES[report.run.task],
        tags=["distill-train", *(["distilled"] if "teacher" in made else [])],
        base_model=on_hub,
        base_model_relation=relation if on_hub else None,
        license=_licence(base) if isinstance(base, str) else None,
        model_name=system,
        eval_results=_results(report, system) or None,
        ignore_metadata_errors=True,
    )
    body = render(
        "card.md.jinja",
        report=report,
        system=system,
        made={**made, "base": on_hub or (Path(base).name if isinstance(base, str) else "a fresh model")},
        stage=report.stages.get(system),
        rows=[row for row in rows if row[0] in (system, made.get("teacher"))],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def _descent(run: Mapping[str, Any], system: str) -> dict[str, object]:
    """The origin of a system: ``stage``, ``kind``, ``base`` (a path or hub name), ``teacher``, ``data``."""
    stages, models = run["stages"], run["models"]
    name = next((one for one in stages if system == one or system.startswith(f"{one}_seed")), system)
    name = name if name in stages else name.removesuffix("_merged")  # what an export stage merged for itself
    stage = stages.get(name, {})
    found = {"stage": name, "kind": stage.get("kind"), "data": stage.get("data", "train")}
    if "teacher" in stage:
        cache = stages.get(stage["teacher"], {})
        found["teacher"] = cache["model"] if cache.get("kind") == "cache_teacher" else stage["teacher"]
    while name in stages and name not in models:
        name = stages[name].get("model", "")
    found["base"] = models.get(name, {}).get("path")
    return {key: value for key, value in found.items() if value is not None}


def _results(report: RunReport, system: str) -> "list[EvalResult]":
    """Every metric of a system, with the data that it was measured on."""
    from huggingface_hub import EvalResult

    evaluation = next((one for one in report.evaluations.values() if system in one.systems), None)
    if evaluation is None:
        return []
    return [
        EvalResult(
            task_type=_PIPELINES[report.run.task],
            dataset_type=report.run.name,
            dataset_name=f"{report.run.name}, {evaluation.data}",
            dataset_split=evaluation.data,
            metric_type=metric,
            metric_value=round(value.value, 4),
            metric_name=f"{metric} ({value.unit})",
        )
        for metric, value in evaluation.systems[system].metrics.items()
    ]


def _licence(base: str) -> str | None:
    """The licence in the base model's own card, where it is on this disk."""
    from huggingface_hub import ModelCard

    try:
        return str(ModelCard.load(described(base, "models") / "README.md").data.license or "") or None
    except (OSError, ValueError):
        return None
