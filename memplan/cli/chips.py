"""`memplan chips`: the chip database with the source of every figure."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table
from memplan.core import units
from memplan.hardware import Chip, Link, Value, alias, chip, chips, links


def command(
    name: Annotated[str | None, typer.Argument(help="Chip or product, such as 910B3, 910_9382 or 910C.")] = None,
    *,
    as_json: JsonOption = False,
) -> int:
    """List the known chips, or show one with every figure's source and what other sources say."""
    if name is None:
        _list_all(as_json)
        return YES
    found = chip(name)
    product = alias(name)
    notes = [] if product is None else [f"{product.name}: {product.note} ({product.source})"]
    if as_json:
        print_json(_document(found, notes))
        return YES
    _show(found, notes)
    return YES


def _list_all(as_json: bool) -> None:
    if as_json:
        print_json([_summary(item) for item in chips()])
        return
    rows = [
        (
            item.name,
            item.npu_arch,
            f"{item.aic_count}/{item.aiv_count}",
            None if item.clock_hz is None else item.clock_hz // 10**6,
            _bytes(item.hbm_bytes),
            _bytes(item.l2_bytes),
            _bytes(item.ub_bytes),
            _tera(item.cube_flops("float16")),
            _tera(item.vector_flops("float32")),
            _hbm_rate(item),
        )
        for item in chips()
    ]
    header = ("chip", "arch", "AIC/AIV", "MHz", "HBM", "L2", "UB", "cube fp16 T", "vector fp32 T", "HBM rate")
    print_table(f"{len(rows)} chips", header, rows, right=range(2, len(header)))


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
        "hbm_basis": item.values["hbm_bw"].basis if "hbm_bw" in item.values else None,
    }


def _show(item: Chip, notes: list[str]) -> None:
    rows: list[tuple[object, ...]] = []
    for key, value in item.values.items():
        rows.append((key, _text(value), value.unit, _source(value)))
        rows.extend(("", f"or {_text(other)}", other.unit, _source(other)) for other in value.also)
    print_table(f"{item.name} ({item.family})", ("figure", "value", "unit", "source"), rows, right=(1,))
    link_rows: list[tuple[object, ...]] = []
    for link in links(item):
        link_rows.append(
            (link.name, _rate(link), _latency(link), link.source + (f" [{link.note}]" if link.note else ""))
        )
        link_rows.extend(
            ("", f"or {units.format_rate(other.value)}", "", other.source)
            for other in link.also
            if isinstance(other.value, (int, float))
        )
    print_table("links of one die", ("link", "rate", "latency", "source"), link_rows, right=(1, 2))
    print("Cube and vector rates are apart: the TFLOPS vendors print add them up.")
    for note in notes:
        print(note)


def _document(item: Chip, notes: list[str]) -> dict[str, Any]:
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
        "notes": notes,
    }


def _value_document(value: Value) -> dict[str, Any]:
    document: dict[str, Any] = {"value": value.value, "unit": value.unit, "source": value.source}
    if value.also:
        document["also"] = [_value_document(other) for other in value.also]
    if value.note:
        document["note"] = value.note
    if value.basis:
        document["basis"] = value.basis
    return document


def _text(value: Value) -> str:
    if value.value is None:
        return "unknown"
    if isinstance(value.value, tuple):
        return " ".join(str(part) for part in value.value)
    return f"{value.value:,}" if isinstance(value.value, (int, float)) else value.value


def _source(value: Value) -> str:
    """Where a figure is from; in brackets how far it can be trusted, and what to mind."""
    remarks = "; ".join(part for part in (value.basis, value.note) if part)
    return f"{value.source} [{remarks}]" if remarks else value.source


def _hbm_rate(item: Chip) -> str | None:
    rate = item.hbm_bytes_per_second
    if rate is None:
        return None
    return units.format_rate(rate) + (" (estimate)" if item.values["hbm_bw"].basis == "estimate" else "")


def _bytes(count: int | None) -> str | None:
    return None if count is None else units.format_bytes(count)


def _tera(rate: float | None) -> str | None:
    return None if rate is None else f"{rate / 1e12:.1f}"


def _rate(link: Link) -> str:
    return "unknown" if link.bytes_per_second is None else units.format_rate(link.bytes_per_second)


def _latency(link: Link) -> str:
    return "unknown" if link.latency_ns is None else units.format_duration(link.latency_ns)
