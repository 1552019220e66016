"""What this app raises, and errors put into words."""


class UsageError(ValueError):
    """What was asked for cannot be done; one line says what was found, what is allowed and what to do."""


class EvaluationError(RuntimeError):
    """The evaluation was started and cannot give a score; the message names the system."""


def words_of(error: Exception) -> str:
    """The message; of an error that nobody put into words, also its kind and how to see where it arose."""
    if isinstance(error, OSError | ValueError | RuntimeError | ImportError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where it comes from)"
