"""The collectives of a plan: what of them is exposed, what would hide them, and what two micro-batches gain."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from memplan.core.units import format_change, format_duration, format_share
from memplan.reports.report import Column, Quantity, ReportSection, ReportTable, section
from memplan.schema.communication import CommunicationOutlook

_USES = (
    Column("collective"),
    Column("group"),
    Column("ranks", Quantity.COUNT),
    Column("number", Quantity.COUNT),
    Column("bytes", Quantity.BYTES),
    Column("time", Quantity.DURATION),
    Column("exposed", Quantity.DURATION),
    Column("hidden", Quantity.SHARE),
)
_BALANCE = (
    Column("phase"),
    Column("layer", Quantity.COUNT),
    Column("computes", Quantity.DURATION),
    Column("exchanges", Quantity.DURATION),
    Column("bytes", Quantity.BYTES),
    Column("needs GB/s per TFLOP/s", Quantity.NUMBER),
    Column("link gives", Quantity.NUMBER),
)


def communication_section(outlook: CommunicationOutlook) -> ReportSection:
    """The section; rates are bytes per second for each FLOP per second that the layer reaches."""
    uses = tuple(
        (
            use.type,
            use.group,
            use.ranks,
            use.count,
            use.nbytes,
            use.duration_ns,
            use.exposed_ns,
            1 - use.exposed_ns / max(use.duration_ns, 1),
        )
        for use in outlook.uses
    )
    layers = tuple(
        (
            item.phase,
            item.layer,
            item.compute_ns,
            item.exchange_ns,
            item.nbytes,
            round(item.needed_rate * 1e3, 3),
            round(item.given_rate * 1e3, 3),
        )
        for item in outlook.layers
    )
    title = (
        f"Collectives take {format_duration(outlook.duration_ns)}, {format_duration(outlook.exposed_ns)} of it exposed "
        f"({format_share(outlook.exposed_ns / max(outlook.step_ns, 1))} of the step)"
    )
    beside = (
        f"everything one after the other {format_duration(outlook.serial_ns)}, collectives beside computing where "
        f"data, the order of streams and addresses allow {format_duration(outlook.step_ns)} "
        f"({format_change(outlook.step_ns / max(outlook.serial_ns, 1) - 1)})"
    )
    pair = (
        f"the layers of two micro-batches, one computing while the other exchanges: "
        f"{format_duration(outlook.pair_ns)} rather than {format_duration(outlook.pair_serial_ns)} "
        f"({format_change(outlook.pair_ns / max(outlook.pair_serial_ns, 1) - 1)}); both are in memory then"
    )
    balance = [ReportTable(_BALANCE, layers)] if layers else []
    return section(title, ReportTable(_USES, uses), beside, *balance, *([pair] if outlook.pair_serial_ns else []))


def larger_batch_section(outlook: CommunicationOutlook, larger: CommunicationOutlook) -> ReportSection:
    """What `larger`, the same step with twice the samples in each micro-batch, changes."""
    share, then = (item.exposed_ns / max(item.step_ns, 1) for item in (outlook, larger))
    once, twice = outlook.step_ns, larger.step_ns / 2
    return section(
        "Twice the samples in a micro-batch",
        f"the step takes {format_duration(larger.step_ns)}, {format_duration(twice)} for as many samples as before "
        f"({format_change(twice / max(once, 1) - 1)}); {format_share(then)} of it is exposed, "
        f"before {format_share(share)}",
    )


def communication_document(outlook: CommunicationOutlook) -> dict[str, Any]:
    """The same as JSON values."""
    balance = [
        {
            **asdict(item),
            "needed_bytes_per_second_per_tflops": item.needed_rate * 1e12,
            "given_bytes_per_second_per_tflops": item.given_rate * 1e12,
        }
        for item in outlook.layers
    ]
    return {
        **asdict(outlook),
        "layers": balance,
        "duration_ns": outlook.duration_ns,
        "exposed_ns": outlook.exposed_ns,
    }
