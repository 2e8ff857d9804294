#!/usr/bin/env python3
"""
Makes memplan/hardware/chips.json from a chip collection, keeping every value's source and whatever disagrees.

usage: tools/make_chips.py CHIPS.json [--onchip ARCHITECTURE.json ...] [-o memplan/hardware/chips.json]

CHIPS.json maps a SoC name to (nested) values `{"value", "unit", "source"[, "also"][, "note"]}`. The architecture files
are those of the on-chip allocation corpus: usable and physical capacity of each on-chip memory.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = 1
ONCHIP_ARCH = {"Ascend910B": "2201", "Ascend950": "3510"}
"""NpuArch each architecture of the on-chip corpus describes."""
ONCHIP_KEYS = {"Vec": "ub_usable", "Mat": "l1_usable", "Left": "l0a_usable", "Right": "l0b_usable", "Acc": "l0c_usable"}
INT4_REMOVED = "mirror-cann/asc-devkit(2026-07-30):docs/zh/guide/.../跨代迁移兼容性指南/2201到3510架构变更.md"

Entry = dict[str, Any]


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Entry]]:
    """Dotted key and entry of every value below `node`."""
    if isinstance(node, dict):
        if "value" in node and "source" in node:
            yield ".".join(path), node
        else:
            for name, child in node.items():
                yield from leaves(child, (*path, name))


def disagree(entries: dict[str, Entry], key: str, value: Any, unit: str, source: str) -> None:
    """Record what another source says of `key`: as a further value, or as the first one."""
    if key not in entries:
        entries[key] = {"value": value, "unit": unit, "source": source}
    elif value != entries[key]["value"]:
        entries[key].setdefault("also", []).append({"value": value, "unit": unit, "source": source})


def add_onchip(entries: dict[str, Entry], architecture: Entry, name: str) -> None:
    """Usable sizes of the on-chip memories as the allocation corpus states them."""
    producer = architecture["metadata"]
    source = f"dsa-solver {name}, from {producer['backend_source']} of pypto@{producer['producer_commit'][:8]}"
    for space in architecture["memory_spaces"]:
        key = ONCHIP_KEYS.get(space["logical_space"])
        if key is not None:
            disagree(entries, key, space["usable_capacity"], "B", source)


def add_reserved(entries: dict[str, Entry]) -> None:
    """HBM that the driver keeps, from the idle use or from what the framework sees of the physical size."""
    total = entries.get("hbm_size", {}).get("value")
    idle, usable = entries.get("idle_hbm_used"), entries.get("usable_hbm_torch_npu")
    if idle is not None:
        entries["hbm_reserved"] = {"value": idle["value"] * 2**20, "unit": "B", "source": idle["source"]}
    elif usable is not None and total is not None and 0 < usable["value"] < total:
        entries["hbm_reserved"] = {
            "value": total - usable["value"],
            "unit": "B",
            "source": f"derived: hbm_size minus what the framework sees; {usable['source']}",
            "note": "measured on an Ascend910_9382; dies with another HBM size keep no figure",
        }


def correct_int4(entries: dict[str, Entry]) -> None:
    """The platform files of NpuArch 3510 list an int4 rate although the cube lost the type."""
    if entries.get("NpuArch", {}).get("value") == "3510" and "mkn.DT_INT4" in entries:
        listed = entries["mkn.DT_INT4"]
        entries["mkn.DT_INT4"] = {
            "value": None,
            "unit": listed["unit"],
            "source": INT4_REMOVED,
            "also": [{key: listed[key] for key in ("value", "unit", "source")}],
            "note": "the cube of 3510 has no int4; the platform file still lists a shape",
        }


_LOOKED_UP = re.compile(r", \w+ id \d+(?=\))")
"""The number under which a collector found a public text says nothing to anyone else."""


class Interned:
    """Texts by number, in order of first use."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def compact(entry: Entry, units: Interned, sources: Interned) -> list[Any]:
    """`[value, unit, source]`, with the disagreeing values and the note behind when there are any."""
    row: list[Any] = [entry["value"], units(entry["unit"]), sources(_LOOKED_UP.sub("", entry["source"]))]
    also = [compact(other, units, sources) for other in entry.get("also", ())]
    note = "; ".join(part for part in (entry.get("note"), entry.get("pipe") and f"pipe {entry['pipe']}") if part)
    if also or note:
        row.append(also)
    if note:
        row.append(note)
    return row


def main() -> None:
    """Read the collection, add what the other sources say, write the database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chips", type=Path)
    parser.add_argument("--onchip", type=Path, nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, default=Path("memplan/hardware/chips.json"))
    options = parser.parse_args()

    architectures = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in options.onchip}
    units, sources = Interned(), Interned()
    chips: dict[str, dict[str, list[Any]]] = {}
    for name, soc in sorted(json.loads(options.chips.read_text(encoding="utf-8")).items()):
        entries = dict(leaves(soc))
        for file, architecture in sorted(architectures.items()):
            if entries.get("NpuArch", {}).get("value") == ONCHIP_ARCH[architecture["architecture_id"]]:
                add_onchip(entries, architecture, file)
        add_reserved(entries)
        correct_int4(entries)
        chips[name] = {key: compact(entry, units, sources) for key, entry in entries.items()}
    document = {"schema": SCHEMA, "units": list(units.numbers), "sources": list(sources.numbers), "chips": chips}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    options.output.write_text(text.replace('},"Ascend', '},\n"Ascend') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
