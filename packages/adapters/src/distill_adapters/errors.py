"""What can go wrong, each also the built-in that a caller would expect."""


class AdapterError(Exception):
    """Base of this package's errors."""


class ModelLoadError(AdapterError, ValueError):
    """A model cannot be loaded or made as asked."""


class TargetError(AdapterError, ValueError):
    """No module, or not the named one, can carry an adapter."""


class LabelError(AdapterError, ValueError):
    """The data holds nothing to learn: no labels, or every label is -100."""


class GradientError(AdapterError, RuntimeError):
    """A trainable parameter gets no finite gradient, or following the gradient does not lower the loss."""


class NonFiniteError(AdapterError, ArithmeticError):
    """A loss or a gradient became NaN or infinite; the message names the step."""


class ResumeError(AdapterError, ValueError):
    """The checkpoints of a folder belong to another run, or would be mixed with those of this one."""


class MergeError(AdapterError, ValueError):
    """An adapter cannot be merged, or the merged model answers differently."""
