"""What machine is this, and what should a language model do on it, and why.

Importing this package imports nothing heavy: each name is loaded when it is first used (PEP 562).
"""

import importlib

# Type checkers take it for true; importing typing costs milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from distill_hwdetect.detection import detect, observe
    from distill_hwdetect.doctor import Finding, diagnose
    from distill_hwdetect.errors import HardwareError, ModelConfigError, ProfileError, UnsupportedPolicyError
    from distill_hwdetect.largest import Fitting, Knob, fit
    from distill_hwdetect.memory import MemoryEstimate, estimate_memory
    from distill_hwdetect.models import ModelFacts, read_model_facts
    from distill_hwdetect.observations import RawObservations
    from distill_hwdetect.planning import plan
    from distill_hwdetect.policy import Choice, ExecutionPolicy, Requirements
    from distill_hwdetect.profile import Accelerator, CpuFacts, HardwareProfile, MemoryFacts, TorchFacts
    from distill_hwdetect.recorded import profile_from_recorded

    __version__: str

__all__ = [
    "Accelerator",
    "Choice",
    "CpuFacts",
    "ExecutionPolicy",
    "Finding",
    "Fitting",
    "HardwareError",
    "HardwareProfile",
    "Knob",
    "MemoryEstimate",
    "MemoryFacts",
    "ModelConfigError",
    "ModelFacts",
    "ProfileError",
    "RawObservations",
    "Requirements",
    "TorchFacts",
    "UnsupportedPolicyError",
    "detect",
    "diagnose",
    "estimate_memory",
    "fit",
    "observe",
    "plan",
    "profile_from_recorded",
    "read_model_facts",
]

_HOME = {
    "Accelerator": "profile",
    "Choice": "policy",
    "CpuFacts": "profile",
    "ExecutionPolicy": "policy",
    "Finding": "doctor",
    "Fitting": "largest",
    "HardwareError": "errors",
    "HardwareProfile": "profile",
    "Knob": "largest",
    "MemoryEstimate": "memory",
    "MemoryFacts": "profile",
    "ModelConfigError": "errors",
    "ModelFacts": "models",
    "ProfileError": "errors",
    "RawObservations": "observations",
    "Requirements": "policy",
    "TorchFacts": "profile",
    "UnsupportedPolicyError": "errors",
    "detect": "detection",
    "diagnose": "doctor",
    "estimate_memory": "memory",
    "fit": "largest",
    "observe": "detection",
    "plan": "planning",
    "profile_from_recorded": "recorded",
    "read_model_facts": "models",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-hwdetect")
    if name in _HOME:
        return getattr(importlib.import_module(f"distill_hwdetect.{_HOME[name]}"), name)
    raise AttributeError(f"module 'distill_hwdetect' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
