"""What this package raises: each error is also a built-in, so ``except ValueError`` catches it."""


class HardwareError(Exception):
    """Base of every error of this package."""


class UnsupportedPolicyError(HardwareError, ValueError):
    """A wish that this machine or this model cannot honour; the message says why and what to do."""


class ModelConfigError(HardwareError, ValueError):
    """A model configuration that is missing, unreadable or says too little to size the model."""


class ProfileError(HardwareError, ValueError):
    """A recorded machine that cannot be read."""
