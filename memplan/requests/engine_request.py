"""Who runs a step, as asked for: an engine by its name or a release, and what it is started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.core.options import option

if TYPE_CHECKING:
    from memplan.engines import StepMode

_PANEL = "Engine"


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """An engine and its own options; those left out are as its release has them."""

    engine: str | None = option(
        "--engine",
        default=None,
        about="Who serves (by default vllm-ascend; a release such as vllm-ascend-0.11.0, sglang, xllm, mindie; "
        "captured is a reference stack that hides the host's work), or of memplan step who trains (megatron and, by "
        "default with fsdp2, pytorch launch one kernel at a time, captured runs a graph).",
        panel=_PANEL,
    )
    eager: bool = option(
        "--enforce-eager",
        "--disable-cuda-graph",
        default=False,
        about="The engine captures no graphs.",
        panel=_PANEL,
    )
    graphs: str | None = option(
        "--cudagraph-mode",
        default=None,
        about="What the engine captures: none, piecewise, full, full_decode_only or full_and_piecewise; by default "
        "what its release does.",
        panel=_PANEL,
    )
    ahead: bool | None = option(
        "--async-scheduling/--no-async-scheduling",
        default=None,
        about="Steps are scheduled ahead; by default as the engine does.",
        panel=_PANEL,
    )

    @property
    def started_with(self) -> bool:
        """Whether anything is said of how the engine is started."""
        return self.eager or self.graphs is not None or self.ahead is not None

    def mode(self) -> StepMode:
        """How steps are run that serve; raises `InputError` for an engine, a release or options that aren't known."""
        from memplan.engines import DEFAULT_ENGINE, step_mode

        return step_mode(self.engine or DEFAULT_ENGINE, eager=self.eager, graphs=self.graphs, ahead=self.ahead)
