"""The tables of docs/run-file.md, from the code: ``python tools/run_file_page.py`` rewrites them.

Keys and defaults are the fields of the configuration, and their docstrings say what they mean; all else on
the page is written by hand and stays.
"""

import dataclasses
import inspect
import json
import re

from distill_adapters import TrainConfig
from distill_app_trainer.runfile import kinds, schema
from distill_kd import CacheConfig, DistillConfig
from workspace import ROOT

PAGE = ROOT / "docs" / "run-file.md"
TABLES: dict[str, type] = {
    "[run]": schema.RunInfo,
    "[data]": schema.DataSource,
    "[data.limits]": schema.Limits,
    "[data.split]": schema.Split,
    "[models.NAME]": schema.ModelSource,
    **{kind: stage for kind, stage in kinds.STAGE_KINDS.items() if kind != "report"},
    "train": TrainConfig,
    "objective": DistillConfig,
    "cache": CacheConfig,
}


def written(page: str) -> str:
    """The page with each table as the code has it.

    Args:
        page: Markdown, with a table of three columns under each of the headings.

    Raises:
        ValueError: A heading or its table is missing.
    """
    for title, kind in TABLES.items():
        table = re.compile(
            rf"(^##+ {re.escape(title)}\n(?:(?!^##).*\n)*?\| key \|.*\n\|---.*\n)(?:\|.*\n?)*", re.MULTILINE
        )
        found = table.search(page)
        if found is None:
            raise ValueError(f"docs/run-file.md has no table under {title!r}; write one with any row.")
        page = page[: found.start()] + found[1] + rows(kind) + page[found.end() :]
    return page


def rows(kind: type) -> str:
    """A line of the table for each field."""
    meanings = described(kind)
    fields = [one for one in dataclasses.fields(kind) if one.name != "kind"]
    return "".join(f"| `{one.name}` | {default(one)} | {meanings[one.name]} |\n" for one in fields)


def described(kind: type) -> dict[str, str]:
    """What the docstring of a configuration says about each of its fields."""
    _, _, text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    text = text or inspect.cleandoc(kind.__doc__ or "").partition("Args:\n")[2]
    found: dict[str, str] = {}
    for name, said in re.findall(r"^    (\w+): (.+(?:\n {8}.*)*)", text.partition("\n\n")[0], re.MULTILINE):
        line = " ".join(said.split()).replace("``", "`").replace("|", "\\|")
        found[name] = re.sub(r"\bNone\b", "none", line)
    return found


def default(field: "dataclasses.Field[object]") -> str:
    """A field's default as TOML has it; ``-`` where there is none, ``none`` where it can be left out."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return "{}" if isinstance(value, dict) or dataclasses.is_dataclass(value) else repr(value)
    if field.default is dataclasses.MISSING:
        return "-"
    if field.default is None:
        return "none"
    if field.default == ():
        return "[]"
    return f"`{json.dumps(field.default)}`" if isinstance(field.default, str) else json.dumps(field.default)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
