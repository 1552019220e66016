"""The location of an adapter's base model: read from the adapter's folder, and written into it."""

import json
import os
from pathlib import Path

from distill_adapters.errors import ModelLoadError
from distill_adapters.spelling import near_path

ADAPTER_FILE = "adapter_config.json"
_KEY = "base_model_name_or_path"


def adapter_base(folder: Path | str, base: Path | str | None = None) -> Path | str:
    """Find the base model of a saved adapter. Reads JSON alone, and imports nothing heavy.

    A path that starts with ``./`` or ``../`` is looked up from the adapter's folder first, then from the
    working directory; any other relative path from the working directory first, as PEFT does.

    Args:
        folder: The folder of the adapter.
        base: Another location of the base; None takes the one that the adapter names.

    Returns:
        The path of the base where it exists on this machine, else its name on the hub.

    Raises:
        ModelLoadError: The folder holds no adapter, names no base, or names one that does not exist.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from distill_adapters import adapter_base
        >>> Path("adapter-of-writer").mkdir()
        >>> config = json.dumps({"base_model_name_or_path": "../writer"})
        >>> _ = Path("adapter-of-writer", "adapter_config.json").write_text(config)
        >>> adapter_base("adapter-of-writer").name
        'writer'
    """
    place = Path(folder)
    named = str(base or _named(place / ADAPTER_FILE))
    places = [Path(named), place / named]
    explicit = named.startswith(("./", "../"))
    if explicit and base is None:
        places.reverse()
    for candidate in places:
        if candidate.exists():
            return candidate if candidate == Path(named) else Path(os.path.normpath(candidate))
    if base is None and (explicit or Path(named).is_absolute()):
        raise ModelLoadError(
            f"the base of {place} was at {named}, which does not exist any more. Give base= its location.",
            field="base",
            found=named,
            suggestion=near_path(places[0]),
        )
    return named


def base_reference(base: str, adapter: Path, within: Path | str) -> str:
    """What an adapter's folder should call its base: a relative path if both lie in the folder ``within``."""
    tree, place = Path(within).resolve(), Path(base).resolve()
    both = place.exists() and all(part.is_relative_to(tree) for part in (place, adapter.resolve()))
    return Path(os.path.relpath(place, adapter.resolve())).as_posix() if both else base


def _named(file: Path) -> str:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{file.parent} is not the folder of an adapter: {file.name} cannot be read ({error}).",
            field="folder",
            found=str(file.parent),
        ) from error
    named = content.get(_KEY) if isinstance(content, dict) else None
    if not isinstance(named, str) or not named:
        raise ModelLoadError(
            f"{file} has no {_KEY}. Give base= the folder of the base model.", field="base", found=named
        )
    return named
