"""Time of collectives between dies: expert dispatch and combine as measured, the rest by the alpha-beta model."""

from __future__ import annotations

from memplan.core.units import round_up
from memplan.cost.collective import collective_time
from memplan.cost.kernels.op_classes import op_class
from memplan.graph import DTYPE_BITS, Graph, Op, Tensor
from memplan.hardware import Chip, Link
from memplan.serving.constants import Constants

_SCALE_BYTES, _ALIGNMENT = 64, 512
"""Of a routed token: `align512(align32(H) + 64)`, hicann/ops-transformer mc2/moe_distribute_dispatch/README.md."""
DISPATCH, COMBINE = "MoeDistributeDispatch", "MoeDistributeCombine"


def collective_ns(op: Op, graph: Graph, chip: Chip, fixed: Constants) -> float | None:
    """
    Nanoseconds of a collective, `None` where no rate is known for the chip's generation.

    The payload is the larger of what goes in and what comes out; of dispatch and combine what is routed. These two
    cost `base + ranks reached x rank + bytes / rate`, the rate scaled by the generation's link. Others begin with a
    base, that of ranks in several servers where dies are joined within one alone.
    """
    found = chip.fabric
    ranks = op.attrs.get("rank_size")
    if found is None or not isinstance(ranks, int):
        return None
    sent = sum(graph.tensors[index].nbytes for index in op.inputs)
    received = sum(graph.tensors[index].nbytes for index in op.outputs)
    rate, share = found.rate(ranks), 1.0 if found.reached else fixed.collective_share
    if op.type in (DISPATCH, COMBINE):
        routed = _routed_bytes(graph.tensors[op.outputs[0] if op.type == DISPATCH else op.inputs[0]])
        sends = op.attrs.get("tokens"), op.attrs.get("per_token")
        reached = min(ranks, sends[0] * sends[1]) if isinstance(sends[0], int) and isinstance(sends[1], int) else ranks
        reference = fixed.reference_link_bytes_per_second * fixed.collective_share
        return _exchange(op.type, routed, ranks, reached, rate * share / reference, fixed)
    link = Link(
        name=found.link,
        bytes_per_second=rate * share,
        latency_ns=round(found.latency_ns),
        source=found.source,
        applies_to=(chip.family,),
    )
    time = collective_time(op_class(op.type).rule, float(max(sent, received)), ranks, link)
    beyond = found.reach is not None and ranks > found.reach
    base = fixed.beyond_server_base_ns if beyond else fixed.collective_base_ns
    return None if time is None else base + time.duration


def _routed_bytes(tokens: Tensor) -> int:
    """Bytes of routed tokens as they are sent: each with its scale where it is quantised, aligned to 512."""
    rows, width = tokens.shape
    bits = DTYPE_BITS[tokens.dtype]
    return rows * round_up(width * bits // 8 + (_SCALE_BYTES if bits <= 8 else 0), _ALIGNMENT)


def _exchange(kind: str, routed: int, ranks: int, reached: int, scale: float, fixed: Constants) -> float:
    away = routed * (ranks - 1) / ranks
    if kind == DISPATCH:
        base, each, rate = fixed.dispatch_base_ns, fixed.dispatch_rank_ns, fixed.dispatch_bytes_per_second
    else:
        base, each, rate = fixed.combine_base_ns, fixed.combine_rank_ns, fixed.combine_bytes_per_second
    return base + reached * each + away / (rate * scale) * 1e9
