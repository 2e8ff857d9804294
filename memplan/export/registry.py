"""The formats a plan can be exported to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from memplan.core.errors import InputError
from memplan.export.chrome_trace import write_chrome_trace
from memplan.export.csv_tables import write_csv
from memplan.export.vllm_ascend import write_vllm_ascend
from memplan.core.progress import Progress, silent
from memplan.schema import Plan


@dataclass(frozen=True, slots=True)
class Exporter:
    """One format: what it is for, whether it is a folder, and what writes it."""

    name: str
    description: str
    folder: bool
    write: Callable[[Plan, Path, Progress], None]


EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {
        exporter.name: exporter
        for exporter in (
            Exporter("csv", "a folder of tables: ops, tensors, placements, transfers, tiers, links", True, write_csv),
            Exporter("chrome-trace", "a trace for Perfetto and MindStudio Insight", False, write_chrome_trace),
            Exporter("vllm-ascend", "flags for vllm serve, as JSON", False, write_vllm_ascend),
        )
    }
)
"""Exporters by the name that `memplan export --to` takes."""


def export(plan: Plan, to: str, path: str | Path, *, progress: Progress = silent) -> Path:
    """
    Write `plan` to `path` in the format called `to`; whatever was there stays until all is written.

    Raises `InputError` for an unknown format, a plan the format can't express, and a path that can't be written.
    """
    exporter = EXPORTERS.get(to)
    if exporter is None:
        raise InputError(f"{to!r:.40} is no export format", remedy=f"choose one of {', '.join(EXPORTERS)}")
    target = Path(path)
    exporter.write(plan, target, progress)
    return target
