"""Models that are named as they are on the Hugging Face hub: ``organisation/name``."""

import re
from pathlib import Path

from distill_app_trainer.errors import Edit, Fix, Retype, RunFileError, near, nearest

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_DESCRIBING = ("config.json", "tokenizer.json", "tokenizer_config.json")
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickles, no code


def is_hub_name(path: str, base: Path = Path()) -> bool:
    """Whether a path means a model on the hub: ``a/b``, where there is no folder ``a`` to look into."""
    return _NAME.fullmatch(path) is not None and not (base / path).parent.exists()


def described(path: str, where: str) -> Path:
    """The folder of a model's configuration and tokenizer; of a hub model, those alone are fetched.

    Args:
        path: A folder, or a name on the hub.
        where: The key of the run file, for the message.

    Raises:
        RunFileError: The hub, or its cache on this machine, has no such model.
    """
    if not is_hub_name(path):
        return Path(path)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    cached = try_to_load_from_cache(path, _DESCRIBING[0])
    if isinstance(cached, str):
        return Path(cached).parent
    _ask(path, where)
    for file in _DESCRIBING:
        try:
            found = Path(hf_hub_download(path, file)).parent
        except EntryNotFoundError:
            continue
    return found


def _cached() -> list[str]:
    """Models that were fetched before."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    return [
        "/".join(folder.name.split("--")[1:])
        for folder in folders
        if any(folder.glob("snapshots/*/config.json"))
    ]


def _on_this_disk(path: str, where: str) -> Fix | None:
    """A model that was fetched before under a name like this one."""
    right = near(path, _cached())
    if right is None:
        return None
    return Retype(path, right) if where.startswith("--") else Edit(tuple(where.split(".")), path, right)


def _ask(path: str, where: str) -> None:
    """Ask the hub once whether it has a model: a download would try again and again."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        files = {file.rfilename for file in HfApi().model_info(path, timeout=10).siblings or ()}
    except RepositoryNotFoundError:
        raise RunFileError(
            f"{where}: there is no folder {path}, and the hub gives no model of that name. Check its "
            "spelling; for a private one, log in with hf auth login.",
            fix=_on_this_disk(path, where),
        ) from None
    except (
        Exception
    ) as error:  # whatever the hub's client raises: its libraries change from version to version
        raise RunFileError(
            f"{where}: there is no folder {path}, and the hub cannot be asked for a model of that name "
            f"({str(error).splitlines()[0]}). Fetch it where there is a network, with hf download {path}, or "
            f"name a folder.{nearest(path, _cached())}",
            fix=_on_this_disk(path, where) or f"hf download {path}",
        ) from error
    if _DESCRIBING[0] not in files:
        raise RunFileError(
            f"{where}: {path!r} on the hub has no {_DESCRIBING[0]}: it is no transformers model."
        )


def fetched(path: str) -> Path:
    """The folder of a whole model; that of a hub model is fetched, without pickles and code."""
    if not is_hub_name(path):
        return Path(path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path, allow_patterns=list(_WANTED)))
