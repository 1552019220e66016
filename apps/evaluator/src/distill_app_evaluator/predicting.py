"""One system answers every input; torch is imported here, and only for what is no export."""

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
from distill_app_evaluator.folders import System
from distill_app_evaluator.request import Answering

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy, HardwareProfile


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a system said.

    Attributes:
        texts: One answer an input.
        scores: The model's own score of each answer, where it gives one.
        seconds: Time spent answering, without loading.
    """

    texts: Sequence[str]
    scores: Sequence[float] | None
    seconds: float


def policy_for(system: System, profile: "HardwareProfile") -> "ExecutionPolicy | None":
    """How a system runs on this machine; None for an export, which brings its own runtime.

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
            "Evaluate an int8 export of it (distill-export), or take a machine with more memory."
        )
    return policy


def answer(
    system: System,
    texts: Sequence[str],
    answering: Answering,
    *,
    policy: "ExecutionPolicy | None",
    cores: int,
    say: Say,
) -> Answers:
    """Let a system answer texts, and let go of it.

    Args:
        system: Which.
        texts: Inputs, with their prefix.
        answering: How.
        policy: Of ``policy_for``.
        cores: That an export may use.
        say: Told in words what happens.

    Raises:
        Exception: What the packages raise: a model or memory that fail.
    """
    inputs = [answering.prefix + text for text in texts]
    try:
        if policy is None:
            return _from_export(system, inputs, answering, cores, say)
        return _from_model(system, inputs, answering, policy, say)
    finally:
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries from stdout, which is the result's alone, and their warnings from the screen."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _from_export(system: System, inputs: list[str], answering: Answering, cores: int, say: Say) -> Answers:
    from distill_deploy import MaskFiller, load_runtime

    runtime = load_runtime(system.path, threads=cores)
    say(f"{system.name} is an export: it runs without torch.")
    started = time.perf_counter()
    if isinstance(runtime, MaskFiller):
        texts = runtime.complete(inputs, batch_size=answering.batch_size)
    else:
        texts = runtime.generate(
            inputs,
            max_new_tokens=answering.max_new_tokens,
            beams=answering.beams,
            batch_size=answering.batch_size,
        )
    return Answers(texts=texts, scores=None, seconds=time.perf_counter() - started)


def _from_model(
    system: System, inputs: list[str], answering: Answering, policy: "ExecutionPolicy", say: Say
) -> Answers:
    from distill_adapters import DecodingConfig, load_model, predict, set_threads

    say(
        f"{system.name} runs on {policy.device.value} in {policy.compute_dtype.value}: {policy.device.reason}"
    )
    set_threads(policy)
    loaded = load_model(system.path, policy, system.task, training=False, base=system.base)
    decoding = DecodingConfig(
        max_new_tokens=answering.max_new_tokens, beams=answering.beams, batch_size=answering.batch_size
    )
    started = time.perf_counter()
    found = predict(loaded.model, loaded.tokenizer, inputs, task=system.task, decoding=decoding)
    return Answers(texts=found.texts, scores=found.scores, seconds=time.perf_counter() - started)
