"""Models named by their hub name, with errors that name the key of the run file."""

from pathlib import Path

from distill_app_trainer.errors import Fix, ReplaceText, ReplaceWord, RunFileError


def described(path: str, where: str) -> Path:
    """The folder of a model's configuration and tokenizer; of a hub model, those alone are fetched.

    Args:
        path: A folder, or a name on the hub.
        where: The key of the run file or the option, for the message.

    Raises:
        RunFileError: The hub, or its cache on this machine, has no such model.
    """
    from distill_adapters import HubError, HubUnreachableError, fetch_description

    try:
        return fetch_description(path)
    except HubError as error:
        fix: Fix | None = f"hf download {path}" if isinstance(error, HubUnreachableError) else None
        if error.suggestion is not None:
            right = str(error.suggestion)
            option = where.startswith("--")
            fix = ReplaceWord(path, right) if option else ReplaceText(tuple(where.split(".")), path, right)
        raise RunFileError(f"{where}: {error}", fix=fix) from error
