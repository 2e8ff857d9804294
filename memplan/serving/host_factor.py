"""How much slower a machine's host is than those of public runs, from a step that it took."""

from __future__ import annotations

from memplan.core.bisection import crossing
from memplan.core.errors import InputError
from memplan.models.steps import Phase
from memplan.serving.constants import engine_host
from memplan.serving.steptime import StepTime

_MOST, _FINE = 1000.0, 0.001


def check_host_shows(engine: str) -> None:
    """Raise `InputError` for an `engine` that hides its host: of nothing nothing is longer."""
    if engine_host(engine).hidden:
        raise InputError(
            "{} hides its host, which no factor makes longer", engine, remedy="name one that shows it, as vllm-ascend"
        )


def found_host_factor(found: StepTime, measured_ns: float, *, eager_drafts: bool = False) -> float | None:
    """
    How many times as long as predicted the host took where `found`, predicted without a factor, took `measured_ns`.

    `None` where kernels alone are predicted to take longer, or a host a thousand times as slow less.
    """
    host, captured = engine_host(found.engine, alone=found.layout.ranks == 1), found.hidden_host_ns
    reads = found.step.phase is Phase.PREFILL

    def taken(factor: float) -> int:
        return host.slower(factor).step(captured, found.work, reads=reads, eager_drafts=eager_drafts)

    if not taken(0.0) <= measured_ns <= taken(_MOST):
        return None
    return crossing(lambda factor: taken(factor) > measured_ns, 0.0, _MOST, within=_FINE)
