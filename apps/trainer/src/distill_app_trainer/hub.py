"""Models that are named as they are on the Hugging Face hub: ``organisation/name``."""

import re
from pathlib import Path

from distill_app_trainer.errors import RunFileError

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
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    found = None
    for file in _DESCRIBING:
        try:
            found = Path(hf_hub_download(path, file)).parent
        except LocalEntryNotFoundError:
            if file == _DESCRIBING[0]:
                raise RunFileError(
                    f"{where}: there is no folder {path}, and the hub cannot be asked for a model of that "
                    f"name (offline). Fetch it where there is a network, with hf download {path}, or name "
                    "a folder."
                ) from None
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunFileError(f"{where}: the hub does not give {path!r}: {reason}") from None
    if found is None:
        raise RunFileError(f"{where}: {path!r} on the hub has neither a configuration nor a tokenizer.")
    return found


def fetched(path: str) -> Path:
    """The folder of a whole model; that of a hub model is fetched, without pickles and code."""
    if not is_hub_name(path):
        return Path(path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path, allow_patterns=list(_WANTED)))
