"""One system answers every input; torch is imported here, and only for models that are not exports."""

import contextlib
import gc
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_app_evaluator.errors import UsageError
from distill_app_evaluator.examples import Say
from distill_app_evaluator.systems import System

if TYPE_CHECKING:
    from distill_adapters import DecodingConfig
    from distill_hwdetect import ExecutionPolicy, HardwareProfile


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers of a system.

    Attributes:
        texts: One answer an input.
        scores: The model's own score of each answer, if it gives one.
        seconds: Time spent answering, without loading.
    """

    texts: Sequence[str]
    scores: Sequence[float] | None
    seconds: float


def policy_for(system: System, profile: "HardwareProfile") -> "ExecutionPolicy | None":
    """Decide how a system runs on this machine; None for an export, which has its own runtime.

    Raises:
        UsageError: It needs more memory than there is.
    """
    from distill_hwdetect import Requirements, choose_policy, read_model_facts

    if system.kind == "export":
        return None
    facts = read_model_facts(system.base or system.path)
    policy = choose_policy(profile, Requirements(task=system.task, model=facts, training=False))
    memory = policy.memory
    if memory is not None and not memory.fits and memory.budget_bytes is not None:
        raise UsageError(
            f"{system.name} needs {memory.total_bytes / 1e9:.1f} GB, and "
            f"{memory.budget_bytes / 1e9:.1f} GB may be used here. "
            "Evaluate an int8 export of it (distill-export), or use a machine with more memory."
        )
    return policy


def answer(
    system: System,
    inputs: list[str],
    decoding: "DecodingConfig",
    *,
    policy: "ExecutionPolicy | None",
    cores: int,
    say: Say,
) -> Answers:
    """Load a system, let it answer, and free its memory.

    Args:
        system: The system.
        inputs: Texts with their prefix.
        decoding: How it answers.
        policy: From ``policy_for``.
        cores: CPU cores that an export may use.
        say: Receives progress messages.

    Raises:
        Exception: What the packages raise when a model cannot be loaded or memory runs out.
    """
    try:
        if policy is None:
            from distill_deploy import load_runtime

            runtime = load_runtime(system.path, threads=cores)
            say(f"{system.name} is an export: it runs without torch.")
            started = time.perf_counter()
            texts = runtime.answer(
                inputs,
                max_new_tokens=decoding.max_new_tokens,
                beams=decoding.beams,
                batch_size=decoding.batch_size,
            )
            return Answers(texts=texts, scores=None, seconds=time.perf_counter() - started)
        from distill_adapters import load_model, predict, set_threads

        device = policy.device
        say(f"{system.name} runs on {device.value} in {policy.compute_dtype.value}: {device.reason}")
        set_threads(policy)
        loaded = load_model(system.path, policy, system.task, training=False, base=system.base)
        started = time.perf_counter()
        found = predict(loaded.model, loaded.tokenizer, inputs, task=system.task, decoding=decoding)
        return Answers(texts=found.texts, scores=found.scores, seconds=time.perf_counter() - started)
    finally:
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries from stdout, which is for the result alone, and their warnings from the screen."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
