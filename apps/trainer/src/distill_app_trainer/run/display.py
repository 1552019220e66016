"""Progress display of a run: on stderr, live on a terminal and plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from distill_adapters.throughput import Throughput
from distill_app_trainer.run.listeners import RunListener

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from distill_app_trainer.plan.plan import RunPlan

_LINE_EVERY_S = 10.0
_TRAINING_ONLY = ("adapter", "optimizer", "gradient_checkpointing", "micro_batch", "accumulation")


class Display:
    """Plan, progress and notes of a run, for a person.

    Args:
        quiet: Say nothing but notes.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        self.quiet = quiet
        self._live: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._rates: dict[str, Throughput] = {}
        self._shown_at: dict[str, float] = {}

    def note(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)

    def plan(self, plan: "RunPlan", rows: Mapping[str, int]) -> None:
        """Machine, models, data, and what each stage does with what reason."""
        if not self.quiet:
            self.console.print(plan_text(plan, rows), markup=False)

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        """Say that a stage begins."""
        self._started[name] = time.monotonic()
        self.note(f"[{number}/{total}] {name} ({kind})")

    def progress(self, name: str, facts: Mapping[str, float]) -> None:
        """Show a step of a stage: ``step``, ``total_steps``, and whatever else is a number."""
        step, total = int(facts.get("step", 0)), int(facts.get("total_steps", 0))
        if self.quiet or not total:
            return
        rate = self._rates.setdefault(name, Throughput())
        rate.take(facts)
        text = "  ".join(part for part in (rate.words(facts), rate.left(step, total)) if part)
        if not self.console.is_terminal:
            self._line(name, step, total, text)
            return
        if self._live is None:
            self._live = self._new_bars()
            self._live.start()
        if name not in self._bars:
            self._bars[name] = self._live.add_task(name, total=total, text=text)
        self._live.update(self._bars[name], completed=step, total=total, text=text)

    def stage_done(self, name: str, text: str, seconds: float) -> None:
        """Say that a stage is over."""
        if self._live is not None and name in self._bars:
            self._live.remove_task(self._bars.pop(name))
        self.note(f"      {name}: {text + ', ' if text else ''}{seconds:.1f} s")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._bars.clear()

    def _new_bars(self) -> "Progress":
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        return Progress(
            TextColumn("      {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
        )

    def _line(self, name: str, step: int, total: int, text: str) -> None:
        now = time.monotonic()
        if step != total and now - self._shown_at.get(name, self._started[name]) < _LINE_EVERY_S:
            return
        self._shown_at[name] = now
        self.note(f"      {name}: step {step}/{total}{'  ' + text if text else ''}")


class LogRelay(logging.Handler):
    """Shows the warnings of this project's packages, from now until ``end``."""

    _PACKAGES = ("distill_adapters", "distill_datakit", "distill_deploy", "distill_hwdetect", "distill_kd")

    def __init__(self, display: RunListener) -> None:
        super().__init__(logging.WARNING)
        self._display = display
        for name in self._PACKAGES:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self._display.note(f"      note: {record.getMessage()}")

    def end(self) -> None:
        """Stop listening."""
        for name in self._PACKAGES:
            logging.getLogger(name).removeHandler(self)


def plan_text(plan: "RunPlan", rows: Mapping[str, int]) -> str:
    """The plan as plain text."""
    cpu, memory = plan.profile.cpu, plan.profile.memory
    lines = [
        f"Run      {plan.config.run.name} ({plan.task}, seed {plan.config.run.seed})",
        f"Machine  {cpu.name or cpu.machine}, {cpu.usable_cores} usable cores, "
        f"{memory.available_bytes / 1e9:.1f} of {memory.total_bytes / 1e9:.1f} GB free"
        + "".join(f", {device.name or device.kind}" for device in plan.profile.accelerators),
        "Data     " + ", ".join(f"{name} {count:,} rows" for name, count in rows.items()),
    ]
    for name, facts in plan.facts.items():
        lines.append(
            f"Model    {name}: {facts.family}, {facts.parameters / 1e6:.2f} M parameters, "
            f"{4 * facts.parameters / 1e6:.1f} MB in float32"
        )
    lines += _policies(plan)
    return "\n".join(lines) + "\n"


def _policies(plan: "RunPlan") -> Iterable[str]:
    """Each stage's needs; a reason is given once, by the first stage that has it."""
    said: set[tuple[str, object, str]] = set()
    for name, stage in plan.config.stages.items():
        policy = plan.policies.get(name)
        if policy is None:
            yield f"Stage    {name} ({stage.kind})"
            continue
        need = f"needs about {policy.memory.total_bytes / 1e6:,.0f} MB"
        yield f"Stage    {name} ({stage.kind}): {need}" + ("" if policy.memory.fits else ", WOULD NOT FIT")
        for field, value, reason in policy.explain():
            if stage.training() is None and field in _TRAINING_ONLY:
                continue
            if (field, value, reason) not in said:
                said.add((field, value, reason))
                shown = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
                yield f"           {field:<22} {shown!s:<18} {reason}"
