"""
The formats a plan can be exported to.

Command line and window list them when they start, so that a writer is imported only when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent

if TYPE_CHECKING:
    from memplan.schema import Plan


@dataclass(frozen=True, slots=True)
class Exporter:
    """
    One format: what it is for, the suffix of its file, and what writes it.

    `suffix` has its dot and is empty for a folder. `writer` names a function `(plan, path, progress)` as
    `module:function` below `memplan.export`; it leaves what is at `path` until everything is written.
    """

    name: str
    description: str
    suffix: str
    writer: str

    def write(self, plan: Plan, path: Path, progress: Progress) -> None:
        """Write `plan` to `path`; raises `InputError` for a plan the format can't express."""
        module, _, function = self.writer.partition(":")
        getattr(importlib.import_module(f"memplan.export.{module}"), function)(plan, path, progress)


EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {
        exporter.name: exporter
        for exporter in (
            Exporter(
                "csv",
                "a folder of tables: ops, tensors, placements, transfers, tiers, links, tilings, buffers",
                "",
                "csv_tables:write_csv",
            ),
            Exporter(
                "chrome-trace",
                "a trace for Perfetto and MindStudio Insight",
                ".json",
                "chrome_trace:write_chrome_trace",
            ),
            Exporter("tilelang", "addresses of on-chip buffers for TileLang-Ascend", ".py", "tilelang:write_tilelang"),
            Exporter("vllm-ascend", "flags for vllm serve, as JSON", ".json", "vllm_ascend:write_vllm_ascend"),
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
