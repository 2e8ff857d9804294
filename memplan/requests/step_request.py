"""One forward step of a served model as asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memplan.core.errors import InputError
from memplan.core.options import option
from memplan.core.sentence import Sentence
from memplan.requests.layout_request import sequence_parallel_option

if TYPE_CHECKING:
    from memplan.models.steps import ServedStep

_PANEL, _LAYOUT = "Step", "Layout"
_PHASES = ("decode", "prefill")


def even_routing_option(panel: str) -> Any:
    """`--even-routing`, which every question about the time of a served mixture has."""
    return option(
        "--even-routing",
        default=False,
        about="Experts are balanced (by copies, or forced): no rank is waited for. Memory and plans have even ones.",
        panel=panel,
    )


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """A prefill or decode step, and what of it is spread over ranks besides attention."""

    phase: str = option("--phase", default="decode", about="decode or prefill.", panel=_PANEL)
    batch: int | None = option(
        "--batch",
        default=None,
        about="Sequences of the step on all ranks; by default one a replica.",
        panel=_PANEL,
        least=1,
    )
    context: int = option(
        "--context",
        "--sequence",
        "-s",
        default=4096,
        about="Tokens of a sequence, those of the step included.",
        panel=_PANEL,
        least=1,
    )
    cached: int = option("--cached", default=0, about="Tokens of a prompt that are cached.", panel=_PANEL, least=0)
    mtp: int = option("--mtp", default=0, about="Draft tokens of multi-token prediction.", panel=_PANEL, least=0)
    weights: str = option(
        "--weights", default="published", about="published, bf16, w8a8, w4a8, mxfp8 or mxfp8-mxfp4.", panel=_PANEL
    )
    kv_dtype: str = option("--kv-dtype", default="bf16", about="bf16, int8 or fp8.", panel=_PANEL)
    index_c8: bool = option("--index-c8", default=False, about="Keys of the indexer in 8 bits.", panel=_PANEL)
    even_routing: bool = even_routing_option(_PANEL)
    sequence_parallel: bool = sequence_parallel_option()
    whole_shared: bool = option(
        "--whole-shared", default=False, about="Shared experts are whole on each TP rank.", panel=_LAYOUT
    )
    output_tp: int = option(
        "--output-tp", default=1, about="Ranks that share attention's output projection.", panel=_LAYOUT, least=1
    )
    head_tp: int = option("--head-tp", default=1, about="Ranks that share the head.", panel=_LAYOUT, least=1)
    dense_tp: int = option(
        "--dense-tp", default=1, about="Ranks that share dense feed-forward layers.", panel=_LAYOUT, least=1
    )
    embedding_tp: int = option(
        "--embedding-tp", default=1, about="Ranks that share the embedding.", panel=_LAYOUT, least=1
    )

    def step(self, data_ranks: int) -> ServedStep:
        """The step on `data_ranks` replicas; raises `InputError` for what no step can be."""
        from memplan.models.steps import Phase, ServedStep

        if self.phase not in _PHASES:
            raise InputError(
                "--phase {!r:.20} is not known", self.phase, remedy=Sentence("write {}", (" or ".join(_PHASES),))
            )
        return ServedStep(
            Phase(self.phase),
            batch=self.batch or data_ranks,
            context=self.context,
            cached=self.cached,
            speculative=self.mtp,
            precision=self.weights,
            kv=self.kv_dtype,
            index_c8=self.index_c8,
            sequence_parallel=self.sequence_parallel,
            whole_shared=self.whole_shared,
            even_routing=self.even_routing,
            output_parallel=self.output_tp,
            head_parallel=self.head_tp,
            dense_parallel=self.dense_tp,
            embedding_parallel=self.embedding_tp,
        )
