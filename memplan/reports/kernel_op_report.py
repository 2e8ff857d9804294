"""One kernel by its shape: time and bound, how it is cut, buffers, traffic, and curves over a dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from memplan.core.sentence import Text
from memplan.core.units import format_bytes, format_decimal, format_duration, format_rate, format_share
from memplan.cost.attention import AttentionProblem, attention_time
from memplan.cost.kernel_report import KernelCut, attention_cut, matmul_cut
from memplan.cost.kernel_time import attention_cost_of
from memplan.cost.limits import KernelCost
from memplan.cost.machine import Machine
from memplan.cost.product_costs import matmul_cost_of
from memplan.cost.products import MatmulProblem, search_tilings
from memplan.cost.uncertainty import (
    ATTENTION_CLASS,
    SERVED_ATTENTION_CLASS,
    UNKNOWN_CLASS,
    TimeInterval,
    class_interval,
    product_class,
)
from memplan.hardware import Chip
from memplan.placement.onchip import onchip_picture, plan_onchip
from memplan.reports.charts import bar_chart
from memplan.reports.report import (
    Column,
    Drawing,
    Part,
    Quantity,
    Remark,
    Report,
    ReportCell,
    ReportSection,
    ReportTable,
    Severity,
    section,
)
from memplan.schema import OnChipPlan

_FRONT = 12
"""Of the tilings that no other beats about this many are listed."""

_PIPES = (Column("pipe"), Column("time", Quantity.DURATION), Column("share", Quantity.SHARE, 0))
_TRAFFIC = (
    Column("level"),
    Column("bytes", Quantity.BYTES),
    Column("lower bound", Quantity.BYTES),
    Column("gap", Quantity.SHARE),
)
_TILINGS = (
    Column("L1 and L0C", Quantity.BYTES),
    Column("GM traffic", Quantity.BYTES),
    Column("time", Quantity.DURATION),
    Column("tiling"),
)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The least a kernel can take: nanoseconds and bytes, and how that is known."""

    time_ns: int
    gm_bytes: int
    hbm_bytes: int
    method: str


def _roofline_ns(flops: float, mac_rate: float, cores: int, nbytes: float, machine: Machine) -> int:
    """The longer of all multiplications at the cube's peak and all bytes at HBM's."""
    peak = flops / (2 * mac_rate * cores * machine.clock_hz) * 1e9
    return round(max(peak, nbytes / machine.hbm_bytes_per_second * 1e9))


def matmul_op_report(
    problem: MatmulProblem, machine: Machine, chip: Chip, *, dtype: str, passes: float, cores: int
) -> Report:
    """
    A product of factors of `dtype`, with `passes` of fused vector work, on `cores` (0: all), in the tiling that the
    library is taken to run.
    """
    found = search_tilings(problem, machine, cores=cores or None)
    best = found.chosen(machine)
    tiling = found.tiling(best)
    used = cores or machine.cubes
    cut = matmul_cut(problem, tiling, machine, cores=used)
    compulsory = problem.a_total + problem.b_total + problem.c_total
    bounds = _Bounds(
        _roofline_ns(problem.flops, problem.mac_rate, used, compulsory, machine),
        cut.gm_bound,
        round(compulsory),
        "time: cube and HBM peak; GM: max(each operand once, 2MNK/sqrt(S) - 2S), S all on-chip elements",
    )
    front: list[dict[str, Any]] = [
        {
            "tiling": str(found.tiling(index)),
            "on_chip_bytes": int(found.columns["l1_bytes"][index] + found.columns["l0c_bytes"][index]),
            "gm_bytes": int(found.columns["gm_bytes"][index]),
            "time_ns": round(float(found.columns["time"][index])),
        }
        for index in found.pareto()
    ]
    listed = front[:: max(1, -(-len(front) // _FRONT))]
    rows = tuple((row["on_chip_bytes"], row["gm_bytes"], row["time_ns"], row["tiling"]) for row in listed)
    shape = f"{problem.m} x {problem.n} x {problem.k}" + (f", {problem.batch} products" if problem.batch > 1 else "")
    return _report(
        f"matmul {shape}",
        matmul_cost_of(found, best, machine, passes=passes),
        machine,
        chip,
        cut,
        bounds,
        {"tiling": str(tiling), "tilings_enumerated": len(found), "pareto": front},
        f"tiling: {tiling}; best by modelled time of {len(found)} legal ones",
        section(
            "Traffic against buffers: tilings that no other beats in both",
            ReportTable(_TILINGS, rows, total=len(front)),
        ),
        class_name=product_class([dtype], problem.n),
    )


def _attention_class(problem: AttentionProblem) -> str:
    """The class of its interval: kernels of inference have keys in pages or one query, and picked keys have none."""
    if problem.gradient:
        return ATTENTION_CLASS
    if problem.top_k and not problem.indexer:
        return UNKNOWN_CLASS
    return SERVED_ATTENTION_CLASS if problem.page or problem.q_len == 1 else ATTENTION_CLASS


def attention_op_report(problem: AttentionProblem, machine: Machine, chip: Chip, rate: float) -> Report:
    """An attention kernel whose cube multiplies at `rate` a cycle and core."""
    time = attention_time(problem, machine, rate)
    least = round(problem.compulsory_bytes)
    bounds = _Bounds(
        _roofline_ns(problem.flops, rate, machine.cubes, problem.compulsory_bytes, machine),
        least,
        least,
        "time: cube peak and HBM peak; bytes: each operand once (no sharper constant is known for attention)",
    )
    kind = "indexer" if problem.indexer else "attention backward" if problem.gradient else "attention"
    return _report(
        f"{kind} B{problem.batch} N{problem.heads}/{problem.kv_heads} S{problem.q_len}/{problem.kv_len} "
        f"D{problem.d_qk}/{problem.d_v}, {problem.keys_per_query:,.0f} keys a query",
        attention_cost_of(problem, time, machine),
        machine,
        chip,
        attention_cut(problem, time, machine),
        bounds,
        {
            "blocks": {"q": time.block_q, "kv": time.block_kv},
            "keys_per_query": round(problem.keys_per_query, 1),
            "cores": time.cores,
        },
        class_name=_attention_class(problem),
    )


def _report(
    what: str,
    cost: KernelCost,
    machine: Machine,
    chip: Chip,
    cut: KernelCut,
    bounds: _Bounds,
    details: Mapping[str, Any],
    *more: Text | ReportSection,
    class_name: str,
) -> Report:
    interval = class_interval(class_name, cost.duration_ns, machine)
    buffers = plan_onchip(cut.needs, chip)
    pipes = tuple((name, round(time), time / cost.duration_ns) for name, time in cost.pipes.items())
    words: list[Part] = [*cut.words, *(item for item in more if not isinstance(item, ReportSection))]
    seconds = cost.duration_ns * 1e-9
    return Report(
        title=f"{what} on {machine.name}: {format_duration(cost.duration_ns)}, bound by {cost.bound}",
        headline=f"{format_decimal(cost.flops / seconds, 'FLOP/s')}, {format_rate(cost.hbm_bytes / seconds)} of HBM; "
        f"{format_share(bounds.time_ns / cost.duration_ns, 0)} of the roofline ({format_duration(bounds.time_ns)})",
        sections=(
            section("Pipes, mean over cores", ReportTable(_PIPES, pipes), _interval_words(interval)),
            section("How it is cut", *words),
            section("Traffic", _traffic(cost, bounds), f"bounds: {bounds.method}"),
            section("Buffers" + ("" if buffers.fits else f": {format_bytes(buffers.shortfall)} too many"),
                    *_buffers(buffers)),
            *(item for item in more if isinstance(item, ReportSection)),
        ),
        notes=(Remark(cost.assumed, Severity.WARNING),) if cost.assumed else (),
        sources=tuple(machine.sources),
        document=partial(_document, cost, machine, bounds, buffers, details, interval),
    )  # fmt: skip


def _interval_words(interval: TimeInterval | None) -> str:
    if interval is None:
        return "how far the time may be off is not known"
    rests = f"{interval.kernels:,} measured kernels of this class from {interval.sources} sources"
    if interval.widened:
        rests += ", widened: this generation has no intervals of its own"
    ends = f"{format_duration(interval.low_ns)} to {format_duration(interval.high_ns)}"
    return f"{format_share(interval.share, 0)} of such kernels take {ends} ({rests})"


def _traffic(cost: KernelCost, bounds: _Bounds) -> ReportTable:
    """Bytes by level beside their bounds."""
    rows: list[tuple[ReportCell, ...]] = []
    for level, size, bound in (
        ("GM to and from cores", cost.gm_bytes, bounds.gm_bytes),
        ("of it HBM", cost.hbm_bytes, bounds.hbm_bytes),
        ("of it L2", max(cost.gm_bytes - cost.hbm_bytes, 0), None),
    ):
        rows.append((level, size, bound, size / bound - 1 if bound else None))
    return ReportTable(_TRAFFIC, tuple(rows))


def _buffers(buffers: OnChipPlan) -> list[Part]:
    parts: list[Part] = [Drawing(text=onchip_picture(buffers))]
    if buffers.reuse_cost:
        parts.append(f"{buffers.reuse_cost} pairs of buffers share addresses across pipes and need a synchronisation")
    return parts


def _document(
    cost: KernelCost,
    machine: Machine,
    bounds: _Bounds,
    buffers: OnChipPlan,
    details: Mapping[str, Any],
    interval: TimeInterval | None,
) -> dict[str, Any]:
    return {
        "chip": machine.name,
        "time_ns": cost.duration_ns,
        "interval": None if interval is None else asdict(interval),
        "bound": cost.bound,
        "flops": cost.flops,
        "gm_bytes": cost.gm_bytes,
        "hbm_bytes": cost.hbm_bytes,
        "pipes_ns": {name: round(time) for name, time in cost.pipes.items()},
        "bounds": {
            "time_ns": bounds.time_ns,
            "gm_bytes": bounds.gm_bytes,
            "hbm_bytes": bounds.hbm_bytes,
            "method": bounds.method,
        },
        **details,
        "buffers": [
            {"name": b.name, "tier": b.tier.value, "offset": b.offset, "size": b.size, "slots": b.intervals}
            for b in buffers.buffers
        ],
        "memories": [
            {"tier": u.tier.value, "capacity": u.capacity, "peak": u.peak, "lower_bound": u.lower_bound}
            for u in buffers.uses
        ],
        "fits": buffers.fits,
        "rests_on": [{"value": source.value, "note": source.note} for source in machine.sources],
    }


def sweep_report(axis: str, points: Sequence[tuple[int, KernelCost]]) -> Report:
    """The costs of a kernel at values of one dimension, as a curve of its rate."""
    rates = [cost.flops / cost.duration_ns * 1e9 for _, cost in points]
    top = max(rates) or 1.0
    columns = (
        Column(axis, Quantity.COUNT),
        Column("time", Quantity.DURATION),
        Column("rate", Quantity.FLOP_RATE),
        Column("bound"),
        Column("", key="curve"),
    )
    rows = tuple(
        (value, cost.duration_ns, rate, cost.bound, "#" * round(50 * rate / top))
        for (value, cost), rate in zip(points, rates, strict=True)
    )
    bars = [(f"{axis} = {value:,}", rate) for (value, _), rate in zip(points, rates, strict=True)]
    return Report(
        title=f"Curve over {axis}",
        sections=(section("", ReportTable(columns, rows), bar_chart(bars, Quantity.FLOP_RATE)),),
        document=lambda: [
            {axis: value, "time_ns": c.duration_ns, "bound": c.bound, "flops": c.flops} for value, c in points
        ],
    )
