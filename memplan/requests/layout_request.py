"""A parallel layout as asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memplan.core.options import option

if TYPE_CHECKING:
    from memplan.models.parallel import Layout

_PANEL = "Layout"


@dataclass(frozen=True, kw_only=True)
class LayoutRequest:
    """Ranks by dimension."""

    tp: int = option("--tp", default=1, about="Ranks of tensor parallelism.", panel=_PANEL, least=1)
    pp: int = option("--pp", default=1, about="Ranks of pipeline parallelism: stages.", panel=_PANEL, least=1)
    dp: int = option("--dp", default=1, about="Ranks of data parallelism.", panel=_PANEL, least=1)
    ep: int = option(
        "--ep", default=1, about="Ranks that share the experts; 1 splits each by TP.", panel=_PANEL, least=1
    )
    cp: int = option("--cp", default=1, about="Ranks of context parallelism: they share tokens.", panel=_PANEL, least=1)

    @property
    def layout(self) -> Layout:
        """The layout as the model is divided by."""
        from memplan.models.parallel import Layout

        return Layout(tensor=self.tp, pipeline=self.pp, data=self.dp, expert=self.ep, context=self.cp)


def sequence_parallel_option() -> Any:
    """The option of steps and recipes: where both are asked for, one option says it for both."""
    what = "Spread norms and the residual stream over the TP ranks."
    return option("--sequence-parallel", "--sp", default=False, about=what, panel=_PANEL)
