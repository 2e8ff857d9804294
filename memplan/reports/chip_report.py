"""The chip database: all chips in a line each, or one with the source of every figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from memplan.hardware import Chip, Link, SourcedValue, links
from memplan.reports.report import Column, Quantified, Quantity, Report, ReportCell, ReportTable, section

_CHIPS = (
    Column("chip"),
    Column("arch"),
    Column("AIC/AIV"),
    Column("MHz", Quantity.COUNT),
    Column("HBM", Quantity.BYTES),
    Column("L2", Quantity.BYTES),
    Column("UB", Quantity.BYTES),
    Column("cube fp16", Quantity.FLOP_RATE),
    Column("vector fp32", Quantity.FLOP_RATE),
    Column("HBM rate", Quantity.RATE),
    Column("stated by"),
)
_FIGURES = (Column("figure"), Column("value", Quantity.NUMBER), Column("unit"), Column("source"))
_LINKS = (Column("link"), Column("rate", Quantity.RATE), Column("latency", Quantity.DURATION), Column("source"))


def chips_report(found: Sequence[Chip]) -> Report:
    """Every chip in a line."""
    rows = tuple(
        (
            item.name,
            item.npu_arch,
            f"{item.aic_count}/{item.aiv_count}",
            None if item.clock_hz is None else item.clock_hz // 10**6,
            item.hbm_bytes,
            item.l2_bytes,
            item.ub_bytes,
            item.cube_flops("float16"),
            item.vector_flops("float32"),
            item.hbm_bytes_per_second,
            None if item.hbm_basis is None else item.hbm_basis or "vendor",
        )
        for item in found
    )
    return Report(
        title=f"{len(rows)} chips",
        sections=(section("", ReportTable(_CHIPS, rows)),),
        document=lambda: [_summary(item) for item in found],
    )


def chip_report(item: Chip, notes: Sequence[str] = ()) -> Report:
    """One chip: every figure and link with its source and what other sources say; `notes` are of the product."""
    figures = ReportTable(_FIGURES, tuple(_figures(item)), "Figures")
    lines = ReportTable(_LINKS, tuple(_links(links(item))), "Links of one die")
    apart = "Cube and vector rates are apart: the TFLOPS vendors print add them up."
    return Report(
        title=f"{item.name} ({item.family})",
        sections=(section("", figures, lines, apart, *notes),),
        document=partial(_document, item, notes),
    )


def _figures(item: Chip) -> Iterator[tuple[ReportCell, ...]]:
    for key, value in item.values.items():
        yield key, _text(value), value.unit, _source(value)
        yield from (("", f"or {_text(other)}", other.unit, _source(other)) for other in value.also)


def _links(found: Sequence[Link]) -> Iterator[tuple[ReportCell, ...]]:
    for link in found:
        rate: ReportCell = "unknown" if link.bytes_per_second is None else link.bytes_per_second
        latency: ReportCell = "unknown" if link.latency_ns is None else link.latency_ns
        yield link.name, rate, latency, link.source + (f" [{link.note}]" if link.note else "")
        for other in link.also:
            if isinstance(other.value, int | float):
                yield "or", Quantified(other.value, Quantity.RATE), "", other.source


def _summary(item: Chip) -> dict[str, Any]:
    return {
        "name": item.name,
        "npu_arch": item.npu_arch,
        "family": item.family,
        "aic_count": item.aic_count,
        "aiv_count": item.aiv_count,
        "clock_hz": item.clock_hz,
        "hbm_bytes": item.hbm_bytes,
        "l2_bytes": item.l2_bytes,
        "ub_bytes": item.ub_bytes,
        "cube_flops_float16": item.cube_flops("float16"),
        "vector_flops_float32": item.vector_flops("float32"),
        "hbm_bytes_per_second": item.hbm_bytes_per_second,
        "hbm_basis": item.hbm_basis,
    }


def _document(item: Chip, notes: Sequence[str]) -> dict[str, Any]:
    return {
        **_summary(item),
        "values": {key: _value_document(value) for key, value in item.values.items()},
        "links": [
            {
                "name": link.name,
                "bytes_per_second": link.bytes_per_second,
                "latency_ns": link.latency_ns,
                "source": link.source,
                "also": [_value_document(other) for other in link.also],
                "note": link.note,
            }
            for link in links(item)
        ],
        "notes": list(notes),
    }


def _value_document(value: SourcedValue) -> dict[str, Any]:
    document: dict[str, Any] = {"value": value.value, "unit": value.unit, "source": value.source}
    if value.also:
        document["also"] = [_value_document(other) for other in value.also]
    if value.note:
        document["note"] = value.note
    if value.basis:
        document["basis"] = value.basis
    return document


def _source(value: SourcedValue) -> str:
    """Where a figure is from; in brackets how far it can be trusted, and what to mind."""
    remarks = "; ".join(part for part in (value.basis, value.note) if part)
    return f"{value.source} [{remarks}]" if remarks else value.source


def _text(value: SourcedValue) -> str:
    if value.value is None:
        return "unknown"
    if isinstance(value.value, tuple):
        return " ".join(str(part) for part in value.value)
    return f"{value.value:,}" if isinstance(value.value, (int, float)) else value.value
