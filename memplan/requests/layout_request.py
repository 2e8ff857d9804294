"""A parallel layout as asked for, and what of it is said differently for one kind of step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from memplan.core.errors import InputError
from memplan.core.options import option

if TYPE_CHECKING:
    from memplan.models.parallel import Layout

_PANEL = "Layout"

_Asked = TypeVar("_Asked", bound="LayoutRequest")


@dataclass(frozen=True, kw_only=True)
class LayoutRequest:
    """Ranks by dimension, and the layers of each pipeline stage."""

    tp: int = option(
        "--tp",
        "--tensor-parallel-size",
        "-tp",
        "--tp-size",
        default=1,
        about="Ranks of tensor parallelism.",
        panel=_PANEL,
        least=1,
    )
    pp: int = option(
        "--pp",
        "--pipeline-parallel-size",
        "-pp",
        "--pp-size",
        default=1,
        about="Ranks of pipeline parallelism: stages.",
        panel=_PANEL,
        least=1,
    )
    dp: int = option(
        "--dp",
        "--data-parallel-size",
        "-dp",
        "--dp-size",
        default=1,
        about="Ranks of data parallelism.",
        panel=_PANEL,
        least=1,
    )
    ep: int = option(
        "--ep",
        "--expert-parallel-size",
        "--ep-size",
        default=1,
        about="Ranks that share the experts; 1 splits each by TP.",
        panel=_PANEL,
        least=1,
    )
    cp: int = option(
        "--cp",
        "--decode-context-parallel-size",
        "-dcp",
        default=1,
        about="Ranks of context parallelism: they share tokens.",
        panel=_PANEL,
        least=1,
    )
    all_share_experts: bool = option(
        "--enable-expert-parallel",
        default=False,
        about="All ranks of a stage share the experts, as engines say it: --ep of TP x DP.",
        panel=_PANEL,
    )
    stage_layers: str | None = option(
        "--stage-layers",
        "--num-layer-list",
        default=None,
        about="Layers of every pipeline stage, such as 13,16,16,16; by default as even as can be.",
        panel=_PANEL,
    )
    first_stage_layers: int | None = option(
        "--first-stage-layers",
        "--decoder-first-pipeline-num-layers",
        default=None,
        about="Layers of the first pipeline stage; the others share the rest.",
        panel=_PANEL,
        least=1,
    )
    last_stage_layers: int | None = option(
        "--last-stage-layers",
        "--decoder-last-pipeline-num-layers",
        default=None,
        about="Layers of the last pipeline stage; the others share the rest.",
        panel=_PANEL,
        least=1,
    )

    @property
    def layout(self) -> Layout:
        """The layout as the model is divided by; raises `InputError` for layers of stages that can't be meant."""
        from memplan.models.parallel import Layout

        return Layout(
            tensor=self.tp,
            pipeline=self.pp,
            data=self.dp,
            expert=self.tp * self.dp if self.all_share_experts else self.ep,
            context=self.cp,
            stage_layers=self._stage_layers(),
        )

    def with_ranks(self: _Asked, layout: Layout) -> _Asked:
        """The same request with the ranks of `layout`, whose stages have layers as evenly as can be."""
        return replace(
            self,
            tp=layout.tensor,
            pp=layout.pipeline,
            dp=layout.data,
            ep=layout.expert,
            cp=layout.context,
            all_share_experts=False,
            stage_layers=None,
            first_stage_layers=None,
            last_stage_layers=None,
        )

    def _stage_layers(self) -> tuple[int | None, ...]:
        first, last = self.first_stage_layers, self.last_stage_layers
        if self.stage_layers is None:
            if first is None and last is None:
                return ()
            if self.pp < 2:
                raise InputError("one pipeline stage has all layers", remedy="give --pp, or leave its layers out")
            return (first, *(None,) * (self.pp - 2), last)
        if first is not None or last is not None:
            raise InputError("--stage-layers says it of the first and the last stage too", remedy="give one of them")
        try:
            return tuple(int(item) if item.strip() else None for item in self.stage_layers.split(","))
        except ValueError:
            raise InputError(
                "--stage-layers {!r:.40} is no list of numbers", self.stage_layers, remedy="write it as 13,16,16,16"
            ) from None


def sequence_parallel_option() -> Any:
    """The option of steps and recipes: where both are asked for, one option says it for both."""
    what = "Spread norms and the residual stream over the TP ranks."
    return option("--sequence-parallel", "--sp", default=False, about=what, panel=_PANEL)
