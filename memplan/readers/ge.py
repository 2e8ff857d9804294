"""
Plans of GE, the graph engine of CANN: the `[IMAS]` lines of its log and the profiler's `static_op_mem*.csv`.

The log says where every output and workspace lies; the table says sizes and lifetimes only.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.readers.block_spans import BlockSpan

GE_LOG_MARK = "[IMAS]Set "
FOREVER = 2**32 - 1
_HBM_MEMORY = 2
"""RT_MEMORY_HBM in CANN's runtime headers; other memory types are other address spaces."""

_SET = re.compile(
    r"\[IMAS\]Set (?P<graph>\S+) name\[(?P<name>[^\]]*)\] optype\[(?P<type>[^\]]*)\] (?P<role>output|workspace)"
    r"\[(?P<index>\d{1,20})\] offset to \[(?P<offset>\d{1,18})\] streamid\[(?P<stream>\d{1,20})\] "
    r"memtype\[(?P<memory>\d{1,20})\] size\[(?P<size>\d{1,18})\] realsize\[(?P<real>\d{1,18})\] "
    r"noalignsize\[(?P<plain>\d{1,18})\] life time begin\[(?P<begin>\d{1,18})\] life time end\[(?P<end>\d{1,18})\]"
    r"(?: child\[(?P<child>[^\]]*)\])?(?: isref\[(?P<isref>[^\]]*)\])?"
)
_AFTER = re.compile(
    r"\[IMAS\]AfterAssignMemory\s*: (?P<graph>\S+) memoffset\[(?P<offset>\d{1,18})\], memtype\[(?P<memory>\d{1,20})\], "
    r"theory_min\[(?P<least>\d{1,20})\]"
)


def parse_ge_log(text: str, path: str | Path) -> tuple[str, list[BlockSpan], tuple[str, ...]]:
    """
    `(graph, rows, notes)` of a GE log: every output and workspace in device memory.

    A log of several graphs yields the one with the most bytes; the notes name what was left out. References to other
    blocks are left out, because their bytes are counted where they belong. Raises `InputError` for a broken line.
    """
    rows: dict[str, dict[tuple[str, str, int], BlockSpan]] = {}
    elsewhere = references = 0
    totals: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if "[IMAS]" not in line:
            continue
        if match := _AFTER.search(line):
            if int(match["memory"]) == _HBM_MEMORY:
                totals[match["graph"]] = f"GE reports {match['offset']} bytes, and {match['least']} as least possible"
            continue
        if GE_LOG_MARK not in line:
            continue
        match = _SET.search(line)
        if match is None:
            raise InputError("an [IMAS] line that can't be read", path=path, place=Sentence("line {}", (number,)))
        if int(match["memory"]) != _HBM_MEMORY:
            elsewhere += 1
            continue
        if match["isref"] not in (None, "0", "false", "False"):
            references += 1
            continue
        begin, end = int(match["begin"]), int(match["end"])
        key = (match["name"], match["role"], int(match["index"]))
        rows.setdefault(match["graph"], {})[key] = BlockSpan(
            name=match["name"],
            type=match["type"],
            nbytes=int(match["plain"]) or int(match["real"]),
            start=begin,
            end=None if end == FOREVER else max(begin, end),
            offset=int(match["offset"]),
            size=int(match["size"]),
            stream=int(match["stream"]),
            workspace=match["role"] == "workspace",
        )
    if not rows:
        raise InputError("this log has no [IMAS]Set lines in device memory", path=path, remedy=_LOG_REMEDY)
    graph = max(rows, key=lambda name: (sum(row.size for row in rows[name].values()), name))
    notes = [totals[graph]] if graph in totals else []
    if others := sorted(set(rows) - {graph}):
        notes.append(f"graphs left out: {', '.join(others)[:200]}")
    if elsewhere:
        notes.append(f"{elsewhere} blocks lie in other memory than HBM")
    if references:
        notes.append(f"{references} outputs are references to other blocks")
    return graph, list(rows[graph].values()), tuple(notes)


_LOG_REMEDY = "run with ASCEND_GLOBAL_LOG_LEVEL=1 and name the plog file of GE"
_GRAPH_COLUMNS = ("Model Name", "Graph ID")
COLUMNS = ("Op Name", "Node Index Start", "Node Index End", "Size(KB)")


def parse_static_op_mem(lines: Iterable[str], path: str | Path) -> tuple[str, list[BlockSpan], tuple[str, ...]]:
    """
    `(graph, rows, notes)` of a `static_op_mem*.csv`: bytes and lifetimes without addresses.

    A table of several graphs yields the one with the most bytes; the notes name the others and the table's own total.
    Sizes are KiB in the file. Raises `InputError` naming the row.
    """
    reader = csv.DictReader(lines)
    header = reader.fieldnames or []
    if any(column not in header for column in COLUMNS):
        raise InputError(
            "this is not a static_op_mem table", path=path, remedy=Sentence("it has columns {}", (", ".join(COLUMNS),))
        )
    graphs: dict[str, list[BlockSpan]] = {}
    totals: dict[str, int] = {}
    for number, record in enumerate(reader, 2):
        graph = " ".join(str(record[column]) for column in _GRAPH_COLUMNS if column in header)
        try:
            size = Decimal(record["Size(KB)"] or "") * 1024
            # The file rounds KiB to nine decimals.
            if not 0 <= size < 2**63:
                raise ValueError("the size is no number of bytes")
            if (record["Op Name"] or "").strip().upper() == "TOTAL":
                totals[graph] = round(size)
                continue
            start, end = int(record["Node Index Start"] or ""), int(record["Node Index End"] or "")
        except (ValueError, TypeError, InvalidOperation) as error:
            raise InputError(
                "not a row of the table: {}", error, path=path, place=Sentence("row {}", (number,))
            ) from None
        if not 0 <= start < FOREVER or (end < start and end != FOREVER):
            raise InputError("steps {} to {}", start, end, path=path, place=Sentence("row {}", (number,)))
        graphs.setdefault(graph, []).append(
            BlockSpan(
                name=record["Op Name"] or "",
                type="unknown",
                nbytes=round(size),
                start=start,
                end=None if end == FOREVER else end,
                offset=None,
                size=round(size),
            )
        )
    if not graphs:
        raise InputError("the table has no rows", path=path)
    chosen = max(graphs, key=lambda name: (sum(row.size for row in graphs[name]), name))
    notes = ["the table says no addresses"]
    if chosen in totals:
        notes.append(f"the table's own total is {totals[chosen]} bytes")
    if others := sorted(set(graphs) - {chosen}):
        notes.append(f"graphs left out (model, graph): {', '.join(others)[:200]}")
    return f"static op memory of graph {chosen}".strip(), graphs[chosen], tuple(notes)
