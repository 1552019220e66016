"""What the trainer raises itself; everything else comes from the packages."""


class TrainerError(Exception):
    """Base of every error of this app."""


class RunFileError(TrainerError, ValueError):
    """A run file that cannot be run: one line says what was found, what is allowed and what to do."""


class WouldNotFitError(TrainerError, RuntimeError):
    """A stage would need more memory than the machine has."""


class RunFolderError(TrainerError, ValueError):
    """A run folder that cannot be used as asked."""


class StoppedError(TrainerError, RuntimeError):
    """Ctrl-C or SIGTERM came; the message says how to go on."""


class LaneError(TrainerError, RuntimeError):
    """A process that ran a stage ended badly."""


def nearest(word: str, allowed: object) -> str:
    """`` Did you mean 'x'?`` for the nearest of ``allowed``, or nothing."""
    import difflib

    names = (
        [str(name) for name in allowed] if isinstance(allowed, (list, tuple, set, dict, frozenset)) else []
    )
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
