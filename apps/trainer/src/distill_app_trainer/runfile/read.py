"""How a run file is read, and how it is written again; nothing here imports torch."""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from distill_app_trainer.errors import DropOverride, ReplaceText, RunFileError
from distill_app_trainer.runfile.edit import repaired, to_utf8
from distill_app_trainer.runfile.kinds import STAGE_KINDS, add_installed_kinds
from distill_app_trainer.runfile.schema import UNDER_DATA, ModelSource, RunConfig

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def read_run_file(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and validate a run file; files and models it names are looked for by ``check_run``.

    Args:
        path: The TOML file.
        overrides: ``"a.b=value"`` each; the value is read as TOML, or else as text.

    Returns:
        The configuration, its paths absolute, so that it means the same wherever it is written.

    Raises:
        RunFileError: The file is not valid TOML, or a key or value is not allowed; one line.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise RunFileError(f"{path} is not valid TOML: {error}.", fix=repaired(path, error)) from error
    except UnicodeDecodeError as error:
        raise RunFileError(f"{path} is not valid UTF-8: {error}.", fix=to_utf8(path)) from error
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error}.", fix=f"chmod u+r {path}") from error
    for text in overrides:
        _override(raw, text)
    return with_absolute_paths(validate(raw, name=path.name), path.parent)


def validate(raw: Mapping[str, object], *, name: str = "run file") -> RunConfig:
    """Validate the content of a run file.

    Raises:
        RunFileError: The first thing that is wrong, with the nearest right spelling.
    """
    from pydantic import ValidationError

    from distill_app_trainer.runfile.explain import explain

    shaped = _shaped(raw)
    stages = raw.get("stages")
    kinds = (
        [one.get("kind") for one in stages.values() if isinstance(one, Mapping)]
        if isinstance(stages, Mapping)
        else []
    )
    if not set(map(str, kinds)) <= set(STAGE_KINDS):
        add_installed_kinds()
    try:
        return _adapter(tuple(STAGE_KINDS)).validate_python(shaped)
    except ValidationError as error:
        text, fix = explain(error, raw)
        raise RunFileError(f"{name}: {text}", fix=fix) from None


@functools.cache
def _adapter(_kinds: tuple[str, ...]) -> "TypeAdapter[RunConfig]":
    """The validator for the kinds of stages that are known; kept, since building it takes 25 ms."""
    from pydantic import TypeAdapter

    return TypeAdapter(RunConfig)


def run_file_schema() -> dict[str, object]:
    """The JSON schema of a run file: limits lie under ``data``, and a plain path is a data source."""
    add_installed_kinds()
    schema = _adapter(tuple(STAGE_KINDS)).json_schema()
    fields = schema["properties"]
    path_or_table = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/DataSource"}]}
    fields["data"] = {
        "type": "object",
        "properties": {name: fields.pop(name) for name in UNDER_DATA},
        "additionalProperties": path_or_table,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Run file", **schema}


def _shaped(raw: Mapping[str, object]) -> dict[str, object]:
    """The file's content as RunConfig's fields: limits beside data, plain paths as tables."""
    shaped = dict(raw)
    for name in UNDER_DATA:
        if name in shaped:
            raise RunFileError(
                f"[{name}] is unknown. Did you mean [data.{name}]?",
                fix=ReplaceText((name,), name, f"data.{name}"),
            )
    data = shaped.get("data")
    if isinstance(data, Mapping):
        files = dict(data)
        shaped |= {name: files.pop(name) for name in UNDER_DATA if name in files}
        shaped["data"] = {
            key: {"path": value} if isinstance(value, str) else value for key, value in files.items()
        }
    return shaped


def _override(raw: dict[str, object], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise RunFileError(
            f"--set {text!r}: key.path=value is needed, such as run.seed=7.", fix=DropOverride(text)
        )
    table = raw
    for part in parts[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RunFileError(f"--set {text!r}: {part} is a value, not a table.", fix=DropOverride(text))
        table = inner
    try:
        table[parts[-1]] = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        table[parts[-1]] = value.strip()


def with_absolute_paths(config: RunConfig, base: Path) -> RunConfig:
    """The same configuration with every path seen from ``base``."""
    from distill_app_trainer.runfile.locate import resolve

    def model(source: ModelSource) -> ModelSource:
        path = None if source.path is None else resolve(source.path, base)
        tokenizer = source.tokenizer
        if tokenizer is not None and tokenizer not in config.models:
            tokenizer = resolve(tokenizer, base)
        return dataclasses.replace(source, path=path, tokenizer=tokenizer)

    return dataclasses.replace(
        config,
        data={
            name: dataclasses.replace(source, path=resolve(source.path, base))
            for name, source in config.data.items()
        },
        models={name: model(source) for name, source in config.models.items()},
    )


def to_toml(config: RunConfig) -> str:
    """The configuration as a run file, which ``read_run_file`` reads back equal."""
    import tomli_w

    plain = cast("dict[str, object]", _plain(config))
    data = dict(cast("Mapping[str, object]", plain["data"]))
    data |= {name: table for name in UNDER_DATA if (table := plain.pop(name))}
    return tomli_w.dumps({**plain, "data": data})


def _plain(value: object) -> object:
    """Dataclasses and tuples as tables and lists; TOML has no None, which is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
