"""Templates of this app, and figures as texts."""

import json
from collections.abc import Mapping
from pathlib import Path

from distill_app_trainer.report.charts import marked


def shown_metric(value: object) -> str:
    """``13.2 [12.6, 13.8] %``."""
    assert isinstance(value, Mapping)  # noqa: S101 - MetricResult.to_dict
    unit = " %" if value["unit"] == "percent" else ""
    bounds = value.get("interval")
    interval = f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else ""
    return f"{value['value']:.2f}{interval}{unit}"


def plain(value: object) -> str:
    """A value of a certificate for a person: ``yes``, ``1,880``, ``0.9968``, ``none``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "; ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def render(name: str, /, **values: object) -> str:
    """Fill in a template of this app; HTML is escaped, and ``toml`` writes a string for a run file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html", "html.jinja")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["metric"] = shown_metric
    environment.filters["marked"] = marked
    environment.filters["plain"] = plain
    environment.filters["toml"] = lambda text: json.dumps(text, ensure_ascii=False)
    return environment.get_template(name).render(**values)
