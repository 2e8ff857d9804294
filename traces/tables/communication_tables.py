"""Links and communications in databases: of one rank (`CommAnalyzer*`), and of a job (`ClusterCommunication*`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from memplan.core.sentence import Sentence
from memplan.traces.communication_times import communication_time
from memplan.traces.decimals import scaled
from memplan.traces.notes import Notebook
from memplan.traces.profile import CommunicationTime, LinkTraffic
from memplan.traces.rank_links import link_traffic

_TIME_KEYS = (
    "Start Timestamp(us)", "Elapse Time(ms)", "Transit Time(ms)", "Wait Time(ms)", "Synchronization Time(ms)",
)  # fmt: skip
"""Of `communication.json`, in the order of the columns that hold the same."""
_TOTAL = "Total Op Info"
Texts = Mapping[str, Sequence[str]]


def links_in(table: Texts, path: Path, notes: Notebook) -> Iterator[LinkTraffic]:
    """The uses of links in a matrix table; none where it lacks a column."""
    wanted = ("step", "hccl_op_name", "group_name", "src_rank", "dst_rank", "transport_type", "transit_size",
              "transit_time", "bandwidth")  # fmt: skip
    if not all(name in table for name in wanted):
        return
    for step, op, group, source, target, transport, size, time, rate in zip(
        *(table[name] for name in wanted), strict=True
    ):
        if op == _TOTAL:
            continue
        told = {
            "Transit Size(MB)": size, "Transit Time(ms)": time, "Bandwidth(GB/s)": rate, "Transport Type": transport,
        }  # fmt: skip
        ends = scaled(source, 1), scaled(target, 1)
        use = link_traffic(scaled(step.removeprefix("step"), 1), f"{op}@{group}", ends[0] or 0, ends[1] or 0, told)
        if use is None or None in ends:
            notes.add(path, Sentence("{}: no usable ranks, size and time; skipped", (op,)))
        else:
            yield use


def communications_in(
    times: Texts, packets: Texts, path: Path, notes: Notebook
) -> Iterator[tuple[int | None, CommunicationTime]]:
    """The communications in a table of times, each with its rank where the table tells it (a job's does)."""
    elapsed = "elapse_time" if "elapse_time" in times else "elapsed_time"
    columns = ("step", "hccl_op_name", "group_name", "start_timestamp", elapsed, "transit_time", "wait_time",
               "synchronization_time")  # fmt: skip
    if not all(name in times for name in columns):
        return
    rows = len(times["step"])
    ranks, kinds = times.get("rank_id", [""] * rows), times.get("type", [""] * rows)
    traffic = _packets_by_op(packets)
    for rank, kind, step, op, group, *told in zip(ranks, kinds, *(times[name] for name in columns), strict=True):
        if op == _TOTAL:
            continue
        number = scaled(step.removeprefix("step"), 1)
        links = traffic.get((rank, step, op, group), {})
        one = communication_time(
            number, kind or group, f"{op}@{group}", dict(zip(_TIME_KEYS, told, strict=True)), links
        )
        if one is None:
            notes.add(path, Sentence("{}: no usable start and time; skipped", (op,)))
        else:
            yield scaled(rank, 1), one


def _packets_by_op(table: Texts) -> dict[tuple[str, str, str, str], dict[str, dict[str, object]]]:
    """Traffic by rank, step, op and group as `communication.json` nests it: transport, sums, distribution of sizes."""
    transport_column = "transport_type" if "transport_type" in table else "band_type"
    columns = ("step", "hccl_op_name", "group_name", transport_column, "transit_size", "transit_time", "package_size",
               "count", "total_duration")  # fmt: skip
    found: dict[tuple[str, str, str, str], dict[str, dict[str, object]]] = {}
    if not all(name in table for name in columns):
        return found
    ranks = table.get("rank_id", [""] * len(table["step"]))
    sizes: dict[tuple[str, str, str, str, str], dict[str, list[str]]] = {}
    for rank, step, op, group, transport, size, time, packet, count, duration in zip(
        ranks, *(table[name] for name in columns), strict=True
    ):
        spread = sizes.setdefault((rank, step, op, group, transport), {})
        if scaled(count, 1):
            spread[packet] = [count, duration]
        told: dict[str, object] = {"Transit Size(MB)": size, "Transit Time(ms)": time, "Size Distribution": spread}
        found.setdefault((rank, step, op, group), {})[transport] = told
    return found
