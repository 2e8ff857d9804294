"""
The formats that plans and KV budgets can be exported to.

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
from memplan.core.sentence import Sentence

if TYPE_CHECKING:
    from memplan.deployment.cases import Case
    from memplan.export.settings import ConsumerSettings
    from memplan.kv import KvBudget
    from memplan.schema import Plan


@dataclass(frozen=True, slots=True)
class Exporter:
    """
    One format: what it is for, the suffix of its file, and what writes it.

    `suffix` has its dot and is empty for a folder. `writer` names a function `(plan, path, progress)` as
    `module:function` below `memplan`; it leaves what is at `path` until everything is written. Without one the
    format is settings of a consumer (`knob_table`), of which `plans` says whether a plan can be made into them and
    `budgets` whether a KV budget can; such a name may have a version behind it (`vllm-0.33.0`).
    """

    name: str
    description: str
    suffix: str
    writer: str = ""
    plans: bool = True
    budgets: bool = False

    def write(self, plan: Plan, path: Path, progress: Progress, to: str) -> tuple[Path, ...]:
        """Write `plan` to `path` as `to` says; what was written. Raises `InputError` for what it can't express."""
        if not self.plans:
            raise InputError("{} is made of a KV budget, not of a plan", self.name, remedy="memplan kv ... --export")
        if not self.writer:
            from memplan.export.consumer_settings import write_plan_settings

            return write_plan_settings(plan, path, progress, to=to)
        module, _, function = self.writer.partition(":")
        getattr(importlib.import_module(f"memplan.{module}"), function)(plan, path, progress)
        return (path,)


EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {
        exporter.name: exporter
        for exporter in (
            Exporter(
                "csv",
                "a folder of tables: ops, tensors, placements, transfers, tiers, links, tilings, buffers",
                "",
                "export.csv_tables:write_csv",
            ),
            Exporter("parquet", "the same tables as Parquet files", "", "export.parquet_tables:write_parquet"),
            Exporter(
                "chrome-trace",
                "a trace for Perfetto and MindStudio Insight",
                ".json",
                "export.chrome_trace:write_chrome_trace",
            ),
            Exporter("html", "the plan's report as one page", ".html", "reports.plan_page:write_plan_html"),
            Exporter("svg", "addresses in HBM over the steps, drawn", ".svg", "export.address_drawing:write_svg"),
            Exporter("vllm-ascend", "the command line of vllm serve on Ascend", ".sh", budgets=True),
            Exporter("vllm", "the command line of vllm serve", ".sh", budgets=True),
            Exporter("sglang", "SGLang's server arguments", ".sh", plans=False, budgets=True),
            Exporter("mindie", "MindIE's config.json and environment", "", plans=False, budgets=True),
            Exporter("mooncake", "a KV pool of Mooncake and the engine's command line", "", plans=False, budgets=True),
            Exporter("memcache", "a KV pool of MemCache and the engine's command line", "", plans=False, budgets=True),
            Exporter("ucm", "UCM's store and the engine's command line", "", plans=False, budgets=True),
            Exporter("mindformers", "mindformers' YAML for graph mode", ".yaml"),
            Exporter("mindformers-pynative", "mindformers' YAML for PyNative mode", ".yaml"),
            Exporter("megatron", "Megatron-LM's arguments", ".sh"),
            Exporter("mindspeed", "Megatron-LM's arguments with MindSpeed's", ".sh"),
            Exporter("torchtitan", "torchtitan's arguments (0.2.2: its TOML file)", ".sh"),
            Exporter("hyper-parallel", "a policy of HyperParallel: what is swapped, what is recomputed", ".py",
                     "export.hyper_parallel:write_policy"),
            Exporter("hyperoffload", "MindSpore's HyperOffload with the plan's memory and links", ".sh"),
            Exporter("environment", "variables of the environment that memory depends on", ".sh", budgets=True),
            Exporter("tilelang", "addresses of on-chip buffers for TileLang-Ascend", ".py",
                     "export.tilelang:write_tilelang"),
        )
    }
)  # fmt: skip
"""Exporters by the name that `memplan export --to` takes."""


def find_exporter(to: str) -> Exporter:
    """The exporter called `to`, without the version that may stand behind it; raises `InputError` for none."""
    if to in EXPORTERS:
        return EXPORTERS[to]
    named = [exporter for exporter in EXPORTERS.values() if not exporter.writer and to.startswith(f"{exporter.name}-")]
    if not named:
        raise InputError(
            "{!r:.40} is no export format", to, remedy=Sentence("choose one of {}", (", ".join(EXPORTERS),))
        )
    return max(named, key=lambda exporter: len(exporter.name))


def export(plan: Plan, to: str, path: str | Path, *, progress: Progress = silent) -> Path:
    """
    Write `plan` to `path` in the format called `to`; whatever was there stays until all is written.

    Raises `InputError` for an unknown format, a plan the format can't express, and a path that can't be written.
    """
    target = Path(path)
    find_exporter(to).write(plan, target, progress, to)
    return target


def export_budget(case: Case, budget: KvBudget, to: str, memories: Mapping[str, int] | None = None) -> ConsumerSettings:
    """
    The KV budget of `case` as settings of the consumer `to`; `memories` are bytes of KV outside a die by name.

    Raises `InputError` for a format that is not made of budgets and for what it can't express.
    """
    from memplan.export.consumer_settings import budget_settings

    exporter = find_exporter(to)
    if not exporter.budgets:
        known = ", ".join(item.name for item in EXPORTERS.values() if item.budgets)
        raise InputError("{} is made of a plan, not of a KV budget", to, remedy=Sentence("choose one of {}", (known,)))
    return budget_settings(case, budget, to, memories)
