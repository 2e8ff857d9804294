"""What a calibration fitted, and how well it does on rows that were kept apart."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from memplan.core.units import format_share
from memplan.cost.calibration import Calibration
from memplan.cost.measured_kernels import Observed
from memplan.reports.report import Column, Quantity, Remark, Report, ReportTable, Severity, section

_SHOWN = 30

_ERRORS = (Column("rows"), Column("model alone", Quantity.SHARE), Column("calibrated", Quantity.SHARE))
_FITS = (
    Column("type"),
    Column("rows", Quantity.COUNT),
    Column("shapes", Quantity.COUNT),
    Column("measured / model", Quantity.NUMBER),
    Column("model alone", Quantity.SHARE),
    Column("calibrated", Quantity.SHARE),
)


def calibration_report(result: Calibration, seen: Observed, chosen: str, notes: tuple[str, ...] = ()) -> Report:
    """`result` fitted to what was `seen`; `chosen` says how the chip was, `notes` are of the profile."""
    clock = "unknown" if seen.clock_hz is None else f"{seen.clock_hz / 1e6:,.0f} MHz"
    errors = (
        ("odd, by a fit to them", None, result.train_error),
        ("even, kept apart from it", result.model_error, result.check_error),
        ("shapes never seen, by halves", result.unseen_model_error, result.unseen_error),
    )
    listed = sorted(result.types, key=lambda each: -each.rows)[:_SHOWN]
    rows = tuple((each.name, each.rows, each.shapes, each.ratio, each.model_error, each.check_error) for each in listed)
    remarks = [Remark(note) for note in notes]
    if result.check_error is not None and result.model_error is not None and result.check_error >= result.model_error:
        text = "on the rows kept apart the model alone is better: the profile holds too few kernels of a kind"
        remarks.insert(0, Remark(text, Severity.WARNING))
    return Report(
        title=f"{result.profile}: {seen.cubes} cube cores, {seen.vectors} vector cores, clock {clock}",
        headline=f"taken for {result.chip}, {chosen}",
        sections=(
            section(
                "Time-weighted error",
                ReportTable(_ERRORS, errors),
                f"{len(result.seen_ns):,} kernels were measured and take what they took: all rows are fitted; the "
                f"errors are those of fits to half of them. Of the even rows' time "
                f"{format_share(result.uncovered)} is of kernels of which odd ones tell nothing",
            ),
            section("Even rows by op type", ReportTable(_FITS, rows, total=len(result.types))),
        ),
        notes=tuple(remarks),
        document=partial(_document, result, seen, chosen),
    )


def _document(result: Calibration, seen: Observed, chosen: str) -> dict[str, Any]:
    return {
        "chip": result.chip,
        "chosen": chosen,
        "observed": {
            "cubes": seen.cubes,
            "vectors": seen.vectors,
            "clock_hz": seen.clock_hz,
            "stream_bytes_per_second": seen.stream,
        },
        "train_error": result.train_error,
        "check_error": result.check_error,
        "model_error": result.model_error,
        "unseen_error": result.unseen_error,
        "unseen_model_error": result.unseen_model_error,
        "uncovered": result.uncovered,
        "kernels_seen": len(result.seen_ns),
        "places_carried": result.carried,
        "kept": dict(result.deviations.kept),
        "types": [asdict(each) for each in result.types],
    }
