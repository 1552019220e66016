"""Divergences by name: what each declares about itself, and those of installed packages. Loads no torch."""

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

from distill_kd.errors import ConfigError, nearest, unknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoints

    from torch import Tensor

    from distill_kd.closed_forms import ClosedForm

GROUP = "distill_kd.divergences"  # the entry points under which other packages register theirs
BUILT_IN_NAMES: tuple[str, ...] = (
    "alpha_beta",
    "forward_kl",
    "jensen_shannon",
    "logit_mse",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "top_k_kl",
    "total_variation",
)


class DivergenceFunction(Protocol):
    """A sum over the positions in ``mask``; yours may be passed wherever one of this package may."""

    def __call__(
        self, student_logits: "Tensor", teacher_logits: "Tensor", /, *, mask: "Tensor", temperature: float
    ) -> "Tensor":
        """See :func:`distill_kd.forward_kl` for the shapes."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """A divergence with all that a loss has to know about it.

    An installed package makes one available by name with an entry point in the group
    ``distill_kd.divergences`` whose name is that of the divergence.

    Attributes:
        name: The name that configurations give.
        function: The sum over chosen positions, with the signature of :func:`distill_kd.forward_kl`. Without
            a closed form it is given some rows at a time and differentiated by autograd.
        closed_form: Values ``(rows,)`` and gradient ``(rows, vocab)`` with respect to the student's scores,
            from log-probabilities of student and teacher, ``(rows, vocab)`` each. None uses autograd.
        needs_all_logits: Whether the divergence needs the teacher's whole distribution. Otherwise a truncated
            cache serves it: its k tokens and one that stands for all others are given as ``k + 1`` logits.
        scales_with_temperature: Whether the objective multiplies the divergence by the square of the
            temperature, which keeps the size of its gradient as the temperature rises.
        arguments: Names of the further keyword arguments of ``function`` (and of ``closed_form``). ``alpha``,
            ``beta`` and ``k`` are taken from the fields of :class:`distill_kd.DistillConfig` that have these
            names, others from ``divergence_arguments``.
    """

    name: str
    function: DivergenceFunction
    closed_form: "ClosedForm | None" = None
    needs_all_logits: bool = False
    scales_with_temperature: bool = True
    arguments: tuple[str, ...] = ()

    def bind(self, **arguments: float) -> "Divergence":
        """The same divergence with some of its arguments fixed.

        Raises:
            ConfigError: The divergence does not declare one of them.
        """
        for name in arguments:
            if name not in self.arguments:
                raise ConfigError(
                    f"{self.name} does not take {name!r}; it takes {', '.join(self.arguments) or 'none'}.",
                    field="divergence_arguments",
                    found=name,
                    allowed=self.arguments,
                    suggestion=nearest(name, self.arguments),
                )
        if not arguments:
            return self
        form = self.closed_form and partial(self.closed_form, **arguments)
        function: Callable[..., Tensor] = self.function
        return replace(self, function=partial(function, **arguments), closed_form=form)


def divergence_names() -> tuple[str, ...]:
    """Names of all divergences that a configuration may ask for, those of installed packages included.

    Returns:
        The names in alphabetical order.

    Example:
        >>> from distill_kd import divergence_names
        >>> "forward_kl" in divergence_names()
        True
    """
    return tuple(sorted({*BUILT_IN_NAMES, *_entry_points().names}))


def check_divergence_name(name: str) -> None:
    """Refuse a name that is neither built in nor registered by an installed package."""
    if name not in BUILT_IN_NAMES and name not in _entry_points().names:
        raise unknown("divergence", name, divergence_names())


@cache
def installed_divergence(name: str) -> Divergence:
    """The divergence that an installed package registers under ``name``.

    Raises:
        ConfigError: No package does, or what it registers is not a divergence of that name.
    """
    check_divergence_name(name)
    (entry, *_) = _entry_points().select(name=name)
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the divergence {name!r} could not be loaded from {entry.value}: {error}. Repair or remove the "
            "package that registers it.",
            field="divergence",
            found=name,
        ) from error
    if not isinstance(found, Divergence) or found.name != name:
        raise ConfigError(
            f"{entry.value} is registered as the divergence {name!r}, but it is {found!r}; it must be a "
            "distill_kd.Divergence of that name.",
            field="divergence",
            found=name,
        )
    return found


def _entry_points() -> "EntryPoints":
    """What installed packages register; read each time, since a package may just have been installed."""
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)
