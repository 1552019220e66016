"""The templates of this app, and figures as texts."""

import json
from pathlib import Path

from distill_app_trainer.report.results import Metric
from distill_metrics.charts import mark_words


def shown_metric(metric: Metric | None) -> str:
    """``13.2 [12.6, 13.8] %``; nothing for None."""
    if metric is None:
        return ""
    interval = "" if metric.interval is None else " [{:.2f}, {:.2f}]".format(*metric.interval)
    return f"{metric.value:.2f}{interval}{' %' if metric.unit == 'percent' else ''}"


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
    environment.filters["marked"] = mark_words
    environment.filters["plain"] = plain
    environment.filters["toml"] = lambda text: json.dumps(text, ensure_ascii=False)
    return environment.get_template(name).render(**values)
