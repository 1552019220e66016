"""Models on the Hugging Face hub, named ``organisation/name``: recognised, described, fetched."""

import re
from pathlib import Path

from distill_adapters.errors import HubError, HubUnreachableError
from distill_adapters.spelling import did_you_mean, near

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_DESCRIBING = ("config.json", "tokenizer.json", "tokenizer_config.json")
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickles, no code
_TIMEOUT_S = 10


def is_hub_name(model: str | Path, base: Path = Path()) -> bool:
    """Whether a string names a model on the hub: ``a/b``, where there is no folder ``a`` to look into.

    Args:
        model: A name or a path; a ``Path`` never names a model on the hub.
        base: The folder that relative paths are looked up from.

    Example:
        >>> from distill_adapters import is_hub_name
        >>> is_hub_name("HuggingFaceTB/SmolLM2-135M"), is_hub_name("writer"), is_hub_name("./runs/writer")
        (True, False, False)
    """
    return isinstance(model, str) and bool(_NAME.fullmatch(model)) and not (base / model).parent.exists()


def fetch_description(model: str | Path) -> Path:
    """Give the folder of a model's configuration and tokenizer; from the hub only those files are fetched.

    Args:
        model: A folder, which is returned as it is, or a name on the hub.

    Raises:
        HubError: The hub has no such model, or the model has no ``config.json``. ``suggestion`` is a similar
            name in this machine's cache.
        HubUnreachableError: The model is not in the cache, and the hub cannot be reached.

    Example:
        >>> from distill_adapters import fetch_description
        >>> sorted(file.name for file in fetch_description("writer").glob("*config.json"))
        ['config.json', 'generation_config.json', 'tokenizer_config.json']
    """
    if not is_hub_name(model):
        return Path(model)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    name = str(model)
    cached = try_to_load_from_cache(name, _DESCRIBING[0])
    if isinstance(cached, str):
        return Path(cached).parent
    _ask(name)
    for file in _DESCRIBING:
        try:
            found = Path(hf_hub_download(name, file)).parent
        except EntryNotFoundError:
            continue
    return found


def fetch_model(model: str | Path) -> Path:
    """Give the folder of a whole model; from the hub it is fetched without pickles and without code.

    Args:
        model: A folder, which is returned as it is, or a name on the hub.

    Raises:
        HubError: The hub has no such model.
        HubUnreachableError: Files are missing in the cache, and the hub cannot be reached.

    Example:
        >>> from distill_adapters import fetch_model
        >>> (fetch_model("writer") / "model.safetensors").is_file()
        True
    """
    if not is_hub_name(model):
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(str(model), allow_patterns=list(_WANTED)))
    except RepositoryNotFoundError:
        raise _unknown(str(model)) from None
    except Exception as error:  # see _ask
        raise _unreachable(str(model), error) from error


def _cached() -> list[str]:
    """Names of the models in this machine's cache."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    return [
        "/".join(folder.name.split("--")[1:])
        for folder in folders
        if any(folder.glob("snapshots/*/config.json"))
    ]


def _ask(name: str) -> None:
    """Ask the hub once whether it has a model: a download would try again and again."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        files = {file.rfilename for file in HfApi().model_info(name, timeout=_TIMEOUT_S).siblings or ()}
    except RepositoryNotFoundError:
        raise _unknown(name) from None
    except (
        Exception
    ) as error:  # whatever the hub's client raises: its libraries change from version to version
        raise _unreachable(name, error) from error
    if _DESCRIBING[0] not in files:
        raise HubError(
            f"the model {name!r} on the hub has no {_DESCRIBING[0]}, so transformers cannot load it.",
            field="model",
            found=name,
        )


def _unknown(name: str) -> HubError:
    suggestion = near(name, _cached())
    return HubError(
        f"there is no folder {name}, and the hub has no model of that name. Check its spelling; for a "
        f"private model, log in with hf auth login.{did_you_mean(suggestion)}",
        field="model",
        found=name,
        suggestion=suggestion,
    )


def _unreachable(name: str, error: Exception) -> HubUnreachableError:
    suggestion = near(name, _cached())
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return HubUnreachableError(
        f"there is no folder {name}, and the hub cannot be asked for a model of that name ({said}). Fetch it "
        f"where there is a network, with hf download {name}, or name a folder.{did_you_mean(suggestion)}",
        field="model",
        found=name,
        suggestion=suggestion,
    )
