"""One kernel under the roofline of its chip, in a sentence."""

from __future__ import annotations

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_decimal, format_share
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.machine import Machine
from memplan.schema import PlannedTiling


def roofline_sentences(
    kernel: Kernel, tiling: PlannedTiling, core: Machine, predicted_ns: int | None, measured_ns: int | None
) -> tuple[Sentence, ...]:
    """
    The kernel's FLOP per byte of HBM traffic, what the machine's peaks allow there, and how much of that it reaches.

    The roof is the lesser of the peak of the units it computes on and intensity times HBM bandwidth, bytes that caches
    serve left out (Williams et al., "Roofline", 2009). Empty where it computes or moves nothing.
    """
    if not tiling.flops or not tiling.gm_bytes:
        return ()
    on_cube = any(pipe.name == "cube" and pipe.busy_ns for pipe in tiling.pipes)
    intensity = tiling.flops / max(tiling.hbm_bytes, 1)
    first = next((operand for operand in kernel.inputs if operand is not None), None)
    peak = core.vector_peak
    if on_cube:
        known = core.cube_peak(first.dtype) if first is not None else None
        if known is None:
            return (Sentence("{} FLOP per byte; the cube's peak for its type is not known", (f"{intensity:.3g}",)),)
        peak = known
    memory = intensity * core.hbm_bytes_per_second
    roof = min(peak, memory)
    limit = hbm_text(core) if memory < peak else "cube" if on_cube else "vector"
    values = (f"{intensity:.3g}", format_decimal(roof, ""), limit)
    sentences = [Sentence("{} FLOP per byte of HBM traffic: the roof there is {} FLOP/s, set by {}", values)]
    for text, time in (
        ("predicted {} FLOP/s, {} of the roof", predicted_ns),
        ("measured {} FLOP/s, {} of the roof", measured_ns),
    ):
        if time:
            rate = tiling.flops / time * 1e9
            sentences.append(Sentence(text, (format_decimal(rate, ""), format_share(rate / roof))))
    return tuple(sentences)


_BASES = {"third party": Sentence("third party"), "estimate": Sentence("estimate")}


def hbm_text(core: Machine) -> Text:
    """HBM, and what its rate rests on where no vendor states it."""
    return Sentence("HBM ({})", (_BASES[core.hbm_basis],)) if core.hbm_basis else "HBM"
