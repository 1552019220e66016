"""The tables of the command line: machine, policy with its reasons, one field in full, findings."""

import os
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from distill_hwdetect.doctor import Finding
from distill_hwdetect.policy import ExecutionPolicy, Requirements
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.rules import FLAGS, RULES, gib

if TYPE_CHECKING:
    from distill_hwdetect.models import ModelFacts

_BOLD, _RED, _GREEN, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"
Row = tuple[str, str, str]


def colours(stream: IO[str]) -> bool:
    """Whether to colour: a terminal, and neither ``NO_COLOR`` (whatever its value) nor a dumb one.

    Source:
        no-color.org.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, code: str) -> str:
    """Return a text in a colour, where standard output shows any."""
    return f"{code}{text}{_PLAIN}" if colours(sys.stdout) else text


def overview(
    profile: HardwareProfile, requirements: Requirements, policy: ExecutionPolicy, *, example: bool
) -> str:
    """Return machine, model, policy and memory as a table."""
    rows = [*_machine(profile), ("", "", ""), *_model(requirements, example=example), ("", "", "")]
    rows += [(name, shown(value), reason) for name, value, reason in policy.explain()]
    if policy.teacher is not None:
        rows += [("", "", ""), ("teacher", "", "the model that is distilled")]
        rows += [(f"  {name}", shown(value), reason) for name, value, reason in policy.teacher.explain()]
    memory = policy.memory
    verdict = painted("fits", _GREEN) if memory.fits else painted("WOULD NOT FIT", _RED)
    budget = (
        "budget not known"
        if memory.budget_bytes is None
        else f"of {gib(memory.budget_bytes)} (0.85 of what is free)"
    )
    return _aligned([*rows, ("", "", ""), ("memory", gib(memory.total_bytes), f"{budget}: {verdict}")])


def explanation(field: str, policy: ExecutionPolicy) -> str:
    """Return one field with everything that led to it.

    Raises:
        UnknownFieldError: ``field`` is not a field of a policy; also a ``KeyError``.
    """
    choice = policy.choice(field)
    rule = RULES[choice.rule]
    lines = [
        f"{painted(field, _BOLD)} = {shown(choice.value)}",
        f"reason    {choice.reason}",
        f"rule      {choice.rule}: {rule.when}",
        f"source    {choice.source}",
    ]
    lines += [f"rejected  {shown(other)}: {why}" for other, why in choice.rejected]
    return "\n".join(lines)


def diagnosis(findings: Sequence[Finding]) -> str:
    """Return findings, each with its command below."""
    if not findings:
        return "Nothing is missing or mismatched."
    lines = []
    for finding in findings:
        mark = painted("broken", _RED) if finding.broken else "note  "
        lines += [
            f"{mark}  {painted(finding.subject, _BOLD)}: {finding.problem}",
            f"        {finding.command}",
        ]
    return "\n".join(lines)


def shown(value: object) -> str:
    """Return a value as a run file writes it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _aligned(rows: Sequence[Row]) -> str:
    first = max(len(row[0]) for row in rows)
    second = min(28, max(len(row[1]) for row in rows))
    return "\n".join(f"{painted(f'{a:<{first}}', _BOLD)}  {b:<{second}}  {c}".rstrip() for a, b, c in rows)


def _machine(profile: HardwareProfile) -> list[Row]:
    cpu, memory = profile.cpu, profile.memory
    flags = " ".join(cpu.flags) or "instruction set not read"
    rows = [
        ("machine", f"{profile.system} {cpu.machine}", cpu.name or cpu.vendor or "processor not named"),
        ("cpu", f"{cpu.usable_cores} of {cpu.logical_cores} CPUs usable", flags),
        ("main memory", gib(memory.total_bytes), f"{gib(memory.available_bytes)} available"),
    ]
    if cpu.caches:
        nodes = "" if cpu.numa_nodes is None else f"{cpu.numa_nodes} memory node(s)"
        rows.append(("caches", " ".join(f"{name} {gib(size)}" for name, size in cpu.caches.items()), nodes))
    if profile.disk_free_bytes is not None:
        swap = "swap not read" if memory.swap_bytes is None else f"{gib(memory.swap_bytes)} of swap"
        if memory.swap_bytes == 0:
            swap = "no swap"
        rows.append(("disk", f"{gib(profile.disk_free_bytes)} free", swap))
    for device in profile.accelerators:
        size = "memory not known" if device.total_bytes is None else gib(device.total_bytes)
        detail = device.target or (".".join(map(str, device.capability)) if device.capability else "")
        hidden = f" hidden by {device.hidden_by}" if device.hidden_by else ""
        rows.append((f"{device.kind} {device.index}", size, f"{device.name} {detail}".strip() + hidden))
    torch = "not installed" if profile.torch is None else profile.torch.version or "not recorded"
    rows.append(("torch", torch, _speeds(profile)))
    return rows + [("note", "", note) for note in profile.notes]


def _speeds(profile: HardwareProfile) -> str:
    """Return what a deep probe measured."""
    speeds = (profile.torch.speeds if profile.torch else None) or {}
    return "; ".join(
        f"{device}: " + ", ".join(f"{dtype} {speed:.0f}" for dtype, speed in found.items()) + " GFLOP/s"
        for device, found in speeds.items()
    )


def _model(requirements: Requirements, *, example: bool) -> list[Row]:
    model: ModelFacts = requirements.model
    what = "training" if requirements.training else "running"
    size = f"{model.parameters / 1e6:.1f} M parameters"
    hint = (
        "an example; use `distill-hwdetect plan --model PATH` for yours"
        if example
        else f"{what}, {requirements.task}"
    )
    return [("model", model.family or "unnamed", f"{size}: {hint}")]


def rules_page() -> str:
    """Return the decision table as the page docs/hardware-rules.md: ``distill-hwdetect rules`` prints it."""
    lines = [
        "# Rules of hardware policies",
        "",
        "Rendered by `distill-hwdetect rules > docs/hardware-rules.md` from the table that the program",
        "reads: do not edit. Every choice of a policy names one of these rules, and its source.",
        "",
        "| field | rule | when | source |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {'any' if rule.field == '*' else f'`{rule.field}`'} | {name} | {rule.when} | {rule.source} |"
        for name, rule in RULES.items()
    ]
    lines += [
        "",
        "## Processor flags, and what they decide",
        "",
        "A flag that decides nothing is shown and recorded, but no rule reads it.",
        "",
        "| flag | decides | unless |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {flag.decides or 'nothing'} | {flag.unless} |" for name, flag in FLAGS.items()]
    return "\n".join(lines)
