"""What an exporter is: how a saved model becomes a format, and how that format is run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from distill_deploy.facts import Task
    from distill_deploy.generation import TextGenerator
    from distill_deploy.mask_filling import MaskFiller
    from distill_deploy.source import Source

GROUP = "distill_deploy.exporters"
"""Entry points of this group name a format, and an :class:`Exporter` of another package."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """One conversion that an exporter is asked for.

    Attributes:
        source: The saved model, its tokenizer and the facts about it.
        out: The folder of the export. What the runtime reads is written there.
        precision: The precision of the weights that was asked for.
        compute: One of :meth:`Exporter.computes`: what the runtime shall compute in.
        scratch: A folder that is deleted at the end. It lasts from one ``compute`` to the next, so a file
            that both need is made only once.
        texts: Texts on which the export will be compared with its model.
        isolated: Whether the converter shall run in an environment of its own.
        versions: Name and version of what took part; an exporter may add to it.
    """

    source: Source
    out: Path
    precision: str
    compute: str
    scratch: Path
    texts: Sequence[str] = ()
    isolated: bool = False
    versions: dict[str, str] = field(default_factory=dict)


class Exporter(ABC):
    """How a saved model becomes one format, and how an export in that format is run.

    A package of its own registers one under the entry point group ``distill_deploy.exporters``: the name of
    the entry point is the name of the format, its value a class derived from this one. ``export``,
    ``load_runtime`` and ``export_path`` then know the format by that name. The module of the exporter is
    imported when its format is asked for, so it should import its libraries within its methods.

    Attributes:
        tasks: Tasks of the models that it takes.
        precisions: Precisions that it writes.
        exporter: The name in the certificate of what made an export.
    """

    tasks: ClassVar[tuple[Task, ...]]
    precisions: ClassVar[tuple[str, ...]]
    exporter: ClassVar[str] = "plugin"

    def computes(self, task: Task, precision: str) -> tuple[str, ...]:
        """What the runtime may compute in, the fastest first; the next is tried where one agrees too little."""  # noqa: E501
        del task, precision
        return ("float32",)

    def reason(self, task: Task, *, isolated: bool) -> str:
        """Why this exporter was chosen, for the certificate."""
        del task, isolated
        return f"{type(self).__module__} registers this format, and it was asked for by name"

    def check(self, source: Source, *, isolated: bool) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse what cannot be exported, before the model runs.

        Raises:
            ExportError: The model has no path to this format.
            MissingExtraError: A library is not installed.
        """

    @abstractmethod
    def convert(self, job: Conversion) -> None:
        """Write what the runtime reads, beside tokenizer and runtime.json, into ``job.out``.

        It is called once for each of :meth:`computes`, until an export agrees with its model.

        Raises:
            ExportError: The model has no path to this format.
            MissingExtraError: A library is not installed.
        """

    @abstractmethod
    def load(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None
    ) -> TextGenerator | MaskFiller:
        """The runtime of an export: :class:`TextGenerator` (causal, seq2seq) or :class:`MaskFiller` (masked).

        Args:
            folder: The export, whose manifest has been checked.
            facts: The content of its runtime.json.
            threads: Number of threads to compute with.
            seed: Makes what the runtime draws repeatable; None draws again.

        Raises:
            MissingExtraError: The library that runs it is not installed.
        """
