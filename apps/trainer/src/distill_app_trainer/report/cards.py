"""The model card of a system: what it was made from, and the figures that were measured."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.report.rendering import render
from distill_app_trainer.runfile.hub import described, is_hub_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

_PIPELINES = {"seq2seq": "text2text-generation", "causal": "text-generation", "masked": "fill-mask"}
_Row = tuple[str, str, str, str, str]


def model_card(content: Mapping[str, object], system: str, folder: Path, rows: Sequence[_Row]) -> "ModelCard":
    """The card of one model of a run.

    Args:
        content: The report's.
        system: The model.
        folder: Where it lies.
        rows: Of the report's table.

    Returns:
        A card of huggingface_hub: base model where the hub has it, tags, and every metric as an evaluation.
    """
    from huggingface_hub import ModelCard, ModelCardData

    made = _descent(tomllib.loads(str(content["run_file"])), system)
    adapter = (folder / "adapter_config.json").is_file()
    base = made.get("base")
    on_hub = base if isinstance(base, str) and is_hub_name(base) else None
    relation = "adapter" if adapter else "merge" if made.get("kind") == "merge" else "finetune"
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=_PIPELINES[str(_table(content, "run")["task"])],
        tags=["distill-train", *(["distilled"] if "teacher" in made else [])],
        base_model=on_hub,
        base_model_relation=relation if on_hub else None,
        license=_licence(base) if isinstance(base, str) else None,
        model_name=system,
        eval_results=_results(content, system) or None,
        ignore_metadata_errors=True,
    )
    body = render(
        "card.md.jinja",
        report=content,
        system=system,
        made={**made, "base": on_hub or (Path(base).name if isinstance(base, str) else "a fresh model")},
        stage=_table(content, "stages").get(system, {}),
        rows=[row for row in rows if row[0] in (system, made.get("teacher"))],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def _descent(run: Mapping[str, object], system: str) -> dict[str, object]:
    """What a system comes from: ``stage``, ``kind``, ``base`` (a path or hub name), ``teacher``, ``data``."""
    stages, models = _table(run, "stages"), _table(run, "models")
    name = next((one for one in stages if system == one or system.startswith(f"{one}_seed")), system)
    name = name if name in stages else name.removesuffix("_merged")  # what an export stage merged for itself
    stage = _table(stages, name)
    found: dict[str, object] = {"stage": name, "kind": stage.get("kind"), "data": stage.get("data", "train")}
    if "teacher" in stage:
        store = _table(stages, str(stage["teacher"]))
        found["teacher"] = store.get("model") if store.get("kind") == "cache_teacher" else stage["teacher"]
    while name in stages and name not in models:
        name = str(_table(stages, name).get("model", ""))
    found["base"] = _table(models, name).get("path")
    return {key: value for key, value in found.items() if value is not None}


def _results(content: Mapping[str, object], system: str) -> "list[EvalResult]":
    """Every metric of a system, with the data that it was measured on."""
    from huggingface_hub import EvalResult

    name = str(_table(content, "run")["name"])
    for evaluation in _table(content, "evaluations").values():
        entry = _table(_table({"": evaluation}, ""), "systems").get(system)
        if not isinstance(entry, Mapping):
            continue
        data = str(_table({"": evaluation}, "")["data"])
        return [
            EvalResult(
                task_type=_PIPELINES[str(_table(content, "run")["task"])],
                dataset_type=name,
                dataset_name=f"{name}, {data}",
                dataset_split=data,
                metric_type=metric,
                metric_value=round(value["value"], 4),
                metric_name=f"{metric} ({value['unit']})",
            )
            for metric, value in entry["metrics"].items()
        ]
    return []


def _licence(base: str) -> str | None:
    """What the base model's own card says, where it is on this disk."""
    from huggingface_hub import ModelCard

    try:
        return str(ModelCard.load(described(base, "models") / "README.md").data.license or "") or None
    except (OSError, ValueError):
        return None


def _table(content: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = content.get(key, {})
    return found if isinstance(found, Mapping) else {}
