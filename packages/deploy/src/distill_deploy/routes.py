"""Which exporter and which format a model takes, and why."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from distill_deploy.ctranslate2_export import CTranslate2Exporter
from distill_deploy.errors import ExportError
from distill_deploy.exporter import GROUP, Exporter
from distill_deploy.onnx_export import OnnxExporter
from distill_deploy.optimum_export import OptimumOnnxExporter, OptimumOpenVinoExporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distill_deploy.facts import Task

_BUILT_IN: Sequence[tuple[str, Exporter]] = (  # of several for one task, the first is what "auto" takes
    ("ctranslate2", CTranslate2Exporter()),
    ("onnx", OnnxExporter()),
    ("openvino", OptimumOpenVinoExporter()),
    ("onnx", OptimumOnnxExporter()),
)
EXPORTERS = ("auto", "own", "optimum")


@dataclass(frozen=True)
class ExportPath:
    """How a model is exported.

    Attributes:
        format: "ctranslate2", "onnx", "openvino", or a format that another package registers;
            distill-deploy has an extra named after each of the first three to run it.
        exporter: "own", "optimum", or "plugin" for an exporter of another package.
        reason: Why these were chosen.
    """

    format: str
    exporter: str
    reason: str


def export_formats() -> tuple[str, ...]:
    """Names of the formats that ``export`` can be asked for: our own, then those of other packages.

    Other packages register theirs under the entry point group ``distill_deploy.exporters``; their modules
    are not imported here.

    Example:
        >>> from distill_deploy import export_formats
        >>> export_formats()[:3]
        ('ctranslate2', 'onnx', 'openvino')
    """
    names = [*(name for name, _ in _BUILT_IN), *sorted(one.name for one in entry_points(group=GROUP))]
    return tuple(dict.fromkeys(names))


def export_path(
    task: Task,
    *,
    format: str = "auto",  # noqa: A002 - the word users know
    precision: str = "int8",
    exporter: str = "auto",
    isolated: bool = False,
) -> ExportPath:
    """Settle which exporter and format a model takes, before a model or a backend is loaded.

    Args:
        task: The task of the model: "causal", "seq2seq" or "masked".
        format: "ctranslate2", "onnx", "openvino", a format that another package registers, or "auto" for
            the first one that takes the task.
        precision: The precision of the weights: "fp32", "fp16" or "int8", as far as the format has it.
        exporter: "own", "optimum", or "auto" for our own where it has the format, else Optimum's.
        isolated: Whether Optimum runs in an environment of its own.

    Returns:
        Format, exporter and the reason for them.

    Raises:
        ExportError: There is no such path. ``allowed`` lists what there is.

    Example:
        >>> from distill_deploy import export_path
        >>> path = export_path("masked")
        >>> path.format, path.exporter
        ('onnx', 'own')
        >>> export_path("masked", format="openvino").exporter
        'optimum'
    """
    name, chosen = _route(task, format, exporter, isolated=isolated)
    if precision not in chosen.precisions:
        raise ExportError(
            f"precision {precision!r} was asked for; {name} on a CPU has {', '.join(chosen.precisions)}",
            field="precision",
            found=precision,
            allowed=chosen.precisions,
            suggestion=_nearest(precision, chosen.precisions),
        )
    return ExportPath(name, chosen.exporter, chosen.reason(task, isolated=isolated))


def _route(task: Task, name: str, exporter: str, *, isolated: bool) -> tuple[str, Exporter]:
    if exporter not in EXPORTERS:
        raise ExportError(
            f"exporter {exporter!r} was asked for; there are {', '.join(EXPORTERS)}",
            field="exporter",
            found=exporter,
            allowed=EXPORTERS,
            suggestion=_nearest(exporter, EXPORTERS),
        )
    if exporter == "own" and isolated:
        raise ExportError(
            "isolated is for Optimum's exporters; ours need no environment of their own",
            field="isolated",
            found=True,
            allowed=(False,),
            suggestion=False,
        )
    routes = [(form, one) for form, one in _BUILT_IN if task in one.tasks]
    if name not in ("auto", *(form for form, _ in _BUILT_IN)) and exporter == "auto" and not isolated:
        registered = _registered(name)
        routes += [(name, registered)] if registered is not None and task in registered.tasks else []
    wanted = "optimum" if isolated else exporter
    for form, one in routes:
        if name in ("auto", form) and wanted in ("auto", one.exporter):
            return form, one
    by = {kind: [form for form, one in routes if one.exporter == kind] for kind in ("own", "optimum")}
    allowed = by.get(wanted) or list(dict.fromkeys(form for form, _ in routes))
    others = [one for one in export_formats() if one not in dict(_BUILT_IN)]
    raise ExportError(
        f"format {name!r} was asked for a {task} model, which is exported as {', '.join(by['own'])}, "
        f"or through Optimum (exporter='optimum') as {', '.join(by['optimum'])}"
        + (f"; other packages register {', '.join(others)}" if others else ""),
        field="format",
        found=name,
        allowed=allowed,
        suggestion=_nearest(name, allowed),
    )


def exporter_of(path: ExportPath, task: Task) -> Exporter:
    """The exporter that a settled path names."""
    for form, one in _BUILT_IN:
        if (form, one.exporter) == (path.format, path.exporter) and task in one.tasks:
            return one
    return runner_of(path.format, task)


def runner_of(name: str, task: str) -> Exporter:
    """An exporter that loads exports of a format and a task.

    Raises:
        ExportError: There is none, or that of another package is not usable.
    """
    for form, one in _BUILT_IN:
        if form == name and task in one.tasks:
            return one
    found = _registered(name)
    if found is None or task not in found.tasks:
        raise ExportError(
            f"no installed package runs {task} exports in the format {name!r}; the formats are "
            f"{', '.join(export_formats())}",
            field="format",
            found=name,
            allowed=export_formats(),
        )
    return found


def _registered(name: str) -> Exporter | None:
    """The exporter that another package registers under the name of a format; None where none does."""
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        return None
    if len({one.value for one in found}) > 1:
        raise ExportError(
            f"several packages register the format {name!r}: {', '.join(sorted(map(_package, found)))}; "
            "uninstall all but one",
            field="format",
            found=name,
        )
    loaded = found[0].load()
    made = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(made, Exporter):
        raise ExportError(
            f"{_package(found[0])} registers {found[0].value} as the exporter of {name!r}, which is not "
            "derived from distill_deploy.Exporter",
            field="format",
            found=name,
        )
    return made


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _nearest(name: str, allowed: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, allowed, 1)), allowed[0] if allowed else None)
