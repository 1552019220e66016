"""What a model folder holds, read from its small files without importing anything heavy."""

import difflib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill_adapters.base_location import ADAPTER_FILE, adapter_base
from distill_adapters.errors import ModelLoadError

Part = Literal["config", "weights", "tokenizer"]
PARTS: tuple[Part, ...] = ("config", "weights", "tokenizer")
CONFIG_FILE = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "vocab.json",
    "vocab.txt",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder that holds what was asked for.

    Attributes:
        path: The folder.
        base: The base of an adapter, as :func:`adapter_base` finds it; None for a whole model.
    """

    path: Path
    base: Path | str | None = None


def check_model_folder(
    folder: Path | str, needs: Collection[Part] = PARTS, *, suggest: bool = True
) -> ModelFolder:
    """Check that a folder holds a model or an adapter, before anything heavy is imported.

    Args:
        folder: The folder.
        needs: ``"config"``: a configuration that is valid JSON, of an adapter's base too. ``"weights"``:
            ``*.safetensors``, since pickles are never loaded, of an adapter's base too. ``"tokenizer"``: a
            file of a tokenizer; that of an adapter may be beside its base, where a configuration is needed
            too. A base that is only on the hub is not checked.
        suggest: Look for folders nearby that hold all of this, for the error.

    Raises:
        ModelLoadError: There is no such folder, or it lacks something. ``allowed`` lists the folders inside
            it, or else beside it, that lack nothing; ``suggestion`` is the one with the nearest name.

    Example:
        >>> from distill_adapters import ModelLoadError, check_model_folder
        >>> check_model_folder("writer").path.name
        'writer'
        >>> try:
        ...     check_model_folder("writr")
        ... except ModelLoadError as error:
        ...     print(error.suggestion)
        writer
    """
    place = Path(folder)
    try:
        return _found(place, needs)
    except ModelLoadError as error:
        near = [str(one) for one in nearest_paths(place, lambda one: _holds(one, needs))] if suggest else []
        kind = "model" if "config" in needs else "tokenizer"
        hint = f" The nearest {kind} is {near[0]!r}." if near else ""
        raise ModelLoadError(
            f"{error}{hint}",
            field="folder",
            found=str(folder),
            allowed=near,
            suggestion=near[0] if near else None,
        ) from error


def nearest_paths(path: Path | str, usable: Callable[[Path], bool]) -> tuple[Path, ...]:
    """Find what may have been meant by a path: inside it, or else in the nearest folder above that exists.

    A misspelled folder in the middle of the path is corrected too.

    Args:
        path: A path that cannot be used.
        usable: Whether another path can.

    Returns:
        The usable paths, the one with the most similar name first.

    Example:
        >>> from distill_adapters import nearest_paths
        >>> [str(found) for found in nearest_paths("text.jsonl", lambda one: one.suffix == ".jsonl")]
        ['texts.jsonl', 'pairs.jsonl']
    """
    wrong = Path(path)
    for above in (wrong, *wrong.parents):
        rest = wrong.relative_to(above).parts[1:]
        inside = [place for entry in _entries(above) for place in (entry.joinpath(*rest), entry)]
        found = [one for one in dict.fromkeys([above, *inside]) if one != wrong and usable(one)]
        if found or (above != wrong and above.is_dir()):
            return tuple(sorted(found, key=lambda one: -_likeness(wrong, one)))
    return ()


def tokenizer_vocabulary(folder: Path | str) -> dict[str, int] | None:
    """Read the tokens of a saved fast tokenizer and their ids, without loading it.

    Two tokenizers with the same vocabulary give comparable distributions.

    Args:
        folder: The folder of the tokenizer.

    Returns:
        Token to id, added tokens included; None where there is no ``tokenizer.json``.

    Raises:
        ModelLoadError: ``tokenizer.json`` is not valid JSON.

    Example:
        >>> from distill_adapters import tokenizer_vocabulary
        >>> tokenizer_vocabulary("writer")["w90"]
        95
        >>> tokenizer_vocabulary("writer") == tokenizer_vocabulary("translator")
        True
    """
    file = Path(folder) / TOKENIZER_FILES[0]
    if not file.is_file():
        return None
    content = _json(file)
    found = content.get("model", {}).get("vocab", {})
    if not isinstance(found, dict):  # a Unigram model: a list of tokens with their scores
        tokens = (entry[0] if isinstance(entry, list) else entry for entry in found)
        found = {str(token): index for index, token in enumerate(tokens)}
    return {**found, **{token["content"]: token["id"] for token in content.get("added_tokens", [])}}


def vocabulary_size(folder: Path | str) -> int | None:
    """Read the number of ids of a saved fast tokenizer, without loading it.

    Args:
        folder: The folder of the tokenizer.

    Returns:
        The highest id and one; None where there is no ``tokenizer.json``, or no token in it.

    Raises:
        ModelLoadError: ``tokenizer.json`` is not valid JSON.

    Example:
        >>> from distill_adapters import vocabulary_size
        >>> vocabulary_size("writer")
        96
    """
    vocabulary = tokenizer_vocabulary(folder)
    return max(vocabulary.values()) + 1 if vocabulary else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds any file of a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _found(folder: Path, needs: Collection[Part]) -> ModelFolder:
    if not folder.is_dir():
        if folder.exists():
            raise ModelLoadError(f"{folder} is a file; a folder is needed.")
        raise ModelLoadError(f"there is no folder {folder}.")
    adapter = "config" in needs and (folder / ADAPTER_FILE).is_file()
    base = adapter_base(folder) if adapter else None
    places = [folder, base] if isinstance(base, Path) else [folder]
    if "config" in needs and not isinstance(base, str):
        _check_config(places[-1])
    if "weights" in needs:
        for place in places:
            _check_weights(place)
    if "tokenizer" in needs and not isinstance(base, str) and not any(map(has_tokenizer, places)):
        raise ModelLoadError(
            f"{places[-1]} holds no tokenizer (none of {', '.join(TOKENIZER_FILES)}). Save it beside the "
            "weights with tokenizer.save_pretrained."
        )
    return ModelFolder(path=folder, base=base)


def _holds(folder: Path, needs: Collection[Part]) -> bool:
    try:
        return bool(_found(folder, needs))
    except (ModelLoadError, OSError):
        return False


def _check_config(folder: Path) -> None:
    if not (folder / CONFIG_FILE).is_file():
        raise ModelLoadError(f"{folder} is not a model: it holds neither {CONFIG_FILE} nor {ADAPTER_FILE}.")
    _json(folder / CONFIG_FILE)


def _check_weights(folder: Path) -> None:
    files = [entry for entry in _entries(folder) if entry.is_file()]
    if any(file.suffix == ".safetensors" for file in files):
        return
    pickle = next((file.name for file in files if file.suffix in _PICKLES), None)
    found = f"only {pickle}, a pickle, which is never loaded" if pickle else "no weights"
    raise ModelLoadError(
        f"{folder} holds {found}; *.safetensors is needed. Save the model again with save_pretrained."
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{file} is not valid JSON: {error}. It is truncated or was edited; get the model again."
        ) from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{file} holds {type(content).__name__}, not a JSON object.")
    return content


def _entries(folder: Path) -> Sequence[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return ()


def _likeness(wrong: Path, other: Path) -> float:
    return difflib.SequenceMatcher(None, str(wrong), str(other)).ratio()
