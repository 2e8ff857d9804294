"""Counter samples of a profiler database, named and in the units of the trace JSON."""

from __future__ import annotations

import numpy as np

from memplan.traces.readers.event_builder import EventBuilder
from memplan.traces.tables.sqlite import Database


def add_counters(database: Database, builder: EventBuilder) -> None:
    """Add all counters to `builder`."""
    _bandwidths(database, builder)
    _memory(database, builder)
    for process, table, column, label, key in (
        ("AI Core Freq", "AICORE_FREQ", "freq", "AI Core Freq", "MHz"),
        ("Stars Soc Info", "SOC_BANDWIDTH_LEVEL", "l2BufferBwLevel", "L2 Buffer Bw Level", "L2 Buffer Bw Level"),
        ("Stars Soc Info", "SOC_BANDWIDTH_LEVEL", "mataBwLevel", "Mata Bw Level", "Mata Bw Level"),
    ):
        (time,), (value,) = database.measured(table, ("timestampNs",), (column,))
        builder.sample(process, time, label, np.zeros_like(time), key, value)
    labels = {
        "readBwLevel": "read_bandwidth",
        "writeBwLevel": "write_band_width",
        "readOstLevel": "read_ost",
        "writeOstLevel": "write_ost",
    }
    (time, instance), values = database.measured("ACC_PMU", ("timestampNs", "accId"), tuple(labels))
    for label, value in zip(labels.values(), values, strict=True):
        builder.sample("Acc PMU", time, label, np.zeros_like(time), "value", value, instance)


def _bandwidths(database: Database, builder: EventBuilder) -> None:
    (time, unit, kind), (rate,) = database.measured("HBM", ("timestampNs", "hbmId", "type"), ("bandwidth",))
    for direction in np.unique(kind).tolist():
        rows = kind == direction
        word = database.strings.get(direction, "").capitalize()
        builder.sample("HBM", time[rows], f"HBM {{}}/{word}", unit[rows], f"{word}(MB/s)", rate[rows] / 1e6)
    (time, unit, kind), (hit, rate) = database.measured(
        "LLC", ("timestampNs", "llcId", "mode"), ("hitRate", "throughput")
    )
    for direction in np.unique(kind).tolist():
        rows = kind == direction
        label = f"LLC {{}} {database.strings.get(direction, '').capitalize()}"
        builder.sample("LLC", time[rows], f"{label}/Throughput", unit[rows], "Throughput(MB/s)", rate[rows] / 1e6)
        builder.sample("LLC", time[rows], f"{label}/Hit Rate", unit[rows], "Hit Rate(%)", hit[rows])


def _memory(database: Database, builder: EventBuilder) -> None:
    (time, kind), (ddr, hbm) = database.measured("NPU_MEM", ("timestampNs", "type"), ("ddr", "hbm"))
    for number in np.unique(kind).tolist():
        owner = database.strings.get(number, "")
        owner = {"app": "APP", "device": "Device"}.get(owner, owner)
        rows = kind == number
        for what, value in (("DDR", ddr), ("HBM", hbm), ("Memory", ddr + hbm)):
            builder.sample("NPU MEM", time[rows], f"{owner}/{what}", kind[rows], "KB", value[rows] / 1024)
