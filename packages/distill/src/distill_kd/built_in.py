"""The built-in divergences as one registers them, and the way from a name or a function to one."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from distill_kd import closed_forms, divergences
from distill_kd.registry import Divergence, DivergenceFunction, check_divergence_name, installed_divergence

BUILT_IN: Mapping[str, Divergence] = {
    one.name: one
    for one in (
        Divergence(
            name="alpha_beta",
            function=divergences.alpha_beta,
            closed_form=closed_forms.alpha_beta,
            arguments=("alpha", "beta"),
        ),
        Divergence(name="forward_kl", function=divergences.forward_kl, closed_form=closed_forms.forward_kl),
        Divergence(
            name="jensen_shannon",
            function=divergences.jensen_shannon,
            closed_form=closed_forms.jensen_shannon,
            arguments=("beta",),
        ),
        Divergence(
            name="logit_mse",
            function=divergences.logit_mse,
            closed_form=closed_forms.logit_mse,
            needs_all_logits=True,
        ),
        Divergence(name="reverse_kl", function=divergences.reverse_kl, closed_form=closed_forms.reverse_kl),
        Divergence(
            name="skew_kl",
            function=divergences.skew_kl,
            closed_form=closed_forms.skew_kl,
            arguments=("alpha",),
        ),
        Divergence(
            name="skew_reverse_kl",
            function=divergences.skew_reverse_kl,
            closed_form=closed_forms.skew_reverse_kl,
            arguments=("alpha",),
        ),
        Divergence(
            name="top_k_kl",
            function=divergences.top_k_kl,
            closed_form=closed_forms.top_k_kl,
            arguments=("k",),
        ),
        Divergence(
            name="total_variation",
            function=divergences.total_variation,
            closed_form=closed_forms.total_variation,
        ),
    )
}


def resolve(divergence: str | Divergence | DivergenceFunction) -> Divergence:
    """A divergence given by name, as a function or as it is, with what a loss has to know about it.

    Raises:
        ConfigError: The name is unknown, or an argument that a ``partial`` fixes is outside its range.
        TypeError: The function has no such argument.
    """
    if isinstance(divergence, str):
        check_divergence_name(divergence)
        return BUILT_IN.get(divergence) or installed_divergence(divergence)
    if not isinstance(divergence, Divergence):
        divergence = _described(divergence)
    if isinstance(divergence.function, partial):
        nothing = torch.zeros(1, 1, 2)
        mask = torch.ones(1, 1, dtype=torch.bool)
        divergence.function(nothing, nothing, mask=mask, temperature=1.0)  # checks its arguments
    return divergence


def _described(function: DivergenceFunction) -> Divergence:
    """A function with what is known about it: everything where it is of this package, bound or not."""
    bound = function if isinstance(function, partial) else partial(function)
    for known in BUILT_IN.values():
        if known.function is bound.func and known.closed_form is not None:
            if not bound.keywords:
                return known
            return replace(known, function=function, closed_form=partial(known.closed_form, **bound.keywords))
    return Divergence(name=str(getattr(bound.func, "__name__", bound.func)), function=function)
