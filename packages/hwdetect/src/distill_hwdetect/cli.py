"""``distill-hwdetect``: the machine and the plan, for a person or as JSON.

Exit codes: 0 done, 2 the command line, model, recording or an override is wrong, 3 the model would not fit.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from distill_hwdetect.detection import detect
from distill_hwdetect.errors import HardwareError, ProfileError
from distill_hwdetect.models import ModelFacts, read_model_facts
from distill_hwdetect.planning import plan
from distill_hwdetect.policy import ExecutionPolicy, Requirements
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.recorded import profile_from_recorded
from distill_hwdetect.rules import gib

WOULD_NOT_FIT = 3
# The size that the table without a model speaks of: SmolLM2-135M's.
_EXAMPLE = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        profile = _profile(options.profile)
        requirements = _requirements(options)
        policy = plan(profile, requirements)
    except (HardwareError, ValueError) as error:
        print(f"distill-hwdetect: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"profile": profile.to_dict(), "policy": policy.to_dict()}, indent=1))
    else:
        print(_table(profile, requirements, policy, example=options.command is None))
    return 0 if options.command is None or policy.memory.fits else WOULD_NOT_FIT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill-hwdetect",
        description="What machine is this, and what should a language model do on it, and why.",
    )
    common = argparse.ArgumentParser(add_help=False)
    # SUPPRESS keeps the subcommand's absent option from undoing the one before it.
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    common.add_argument(
        "--profile", metavar="FILE", default=argparse.SUPPRESS, help="a recorded machine instead of this one"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--profile", metavar="FILE", default=None, help="a recorded machine instead of this one"
    )
    commands = parser.add_subparsers(dest="command", metavar="plan")
    planner = commands.add_parser(
        "plan", parents=[common], help="plan one model, exit code 3 when it would not fit"
    )
    planner.add_argument("--model", required=True, metavar="PATH", help="a model folder or its config.json")
    planner.add_argument(
        "--task", choices=("causal", "seq2seq", "masked"), help="the family's own by default"
    )
    planner.add_argument("--teacher", metavar="PATH", help="the teacher's folder or config.json")
    planner.add_argument("--train", action="store_true", help="plan training (running by default)")
    planner.add_argument("--adapter", choices=("auto", "full", "lora", "qlora"), default="auto")
    planner.add_argument("--batch", type=int, default=8, help="effective batch")
    planner.add_argument("--source-length", type=int, default=128)
    planner.add_argument("--target-length", type=int, default=128)
    planner.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field of the policy"
    )
    return parser


def _profile(file: str | None) -> HardwareProfile:
    if file is None:
        return detect()
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{file} holds no JSON object.")
    if isinstance(content.get("profile"), dict):
        content = content["profile"]
    return (
        HardwareProfile.from_dict(content) if "schema_version" in content else profile_from_recorded(content)
    )


def _requirements(options: argparse.Namespace) -> Requirements:
    if options.command is None:
        return Requirements(task="causal", model=read_model_facts(_EXAMPLE))
    model = read_model_facts(options.model)
    return Requirements(
        task=options.task or model.task or "causal",
        model=model,
        training=options.train,
        teacher=None if options.teacher is None else read_model_facts(options.teacher),
        effective_batch=options.batch,
        source_length=options.source_length,
        target_length=options.target_length,
        adapter=options.adapter,
        overrides=dict(_override(text) for text in options.set),
    )


def _override(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes FIELD=VALUE, found {text!r}.")
    return name.strip(), int(value) if value.strip().isdigit() else value.strip()


def _table(
    profile: HardwareProfile, requirements: Requirements, policy: ExecutionPolicy, *, example: bool
) -> str:
    rows = [*_machine(profile), ("", "", ""), *_model(requirements, example=example), ("", "", "")]
    rows += [(name, _shown(value), reason) for name, value, reason in policy.explain()]
    if policy.teacher is not None:
        rows += [("", "", ""), ("teacher", "", "the model that is learnt from")]
        rows += [(f"  {name}", _shown(value), reason) for name, value, reason in policy.teacher.explain()]
    memory = policy.memory
    verdict = "fits" if memory.fits else "WOULD NOT FIT"
    budget = (
        "budget not known"
        if memory.budget_bytes is None
        else f"of {gib(memory.budget_bytes)} (0.85 of what is free)"
    )
    rows += [("", "", ""), ("memory", gib(memory.total_bytes), f"{budget}: {verdict}")]
    first = max(len(row[0]) for row in rows)
    second = min(28, max(len(row[1]) for row in rows))
    return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}".rstrip() for a, b, c in rows)


def _machine(profile: HardwareProfile) -> list[tuple[str, str, str]]:
    cpu, memory = profile.cpu, profile.memory
    flags = " ".join(cpu.flags) or "instruction set not read"
    rows = [
        ("machine", f"{profile.system} {cpu.machine}", cpu.name or cpu.vendor or "processor not named"),
        ("cpu", f"{cpu.usable_cores} of {cpu.logical_cores} CPUs usable", flags),
        ("main memory", gib(memory.total_bytes), f"{gib(memory.available_bytes)} available"),
    ]
    for device in profile.accelerators:
        size = "memory not known" if device.total_bytes is None else gib(device.total_bytes)
        detail = device.target or (".".join(map(str, device.capability)) if device.capability else "")
        rows.append((f"{device.kind} {device.index}", size, f"{device.name} {detail}".strip()))
    torch = "not installed" if profile.torch is None else profile.torch.version or "not recorded"
    rows.append(("torch", torch, ""))
    return rows + [("note", "", note) for note in profile.notes]


def _model(requirements: Requirements, *, example: bool) -> list[tuple[str, str, str]]:
    model: ModelFacts = requirements.model
    what = "training" if requirements.training else "running"
    size = f"{model.parameters / 1e6:.1f} M parameters"
    hint = (
        "an example; `distill-hwdetect plan --model PATH` plans yours"
        if example
        else f"{what}, {requirements.task}"
    )
    return [("model", model.family or "unnamed", f"{size}: {hint}")]


def _shown(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
