"""
Large profile files for benchmarks, made up: events in the proportions of a real torch_npu level-2 trace.

One training step is written as text once; for every further step, the digits of its times and flow ids are replaced in
place, which makes a gigabyte in seconds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Events of one step: how many of each kind (counted in a real trace of one AlexNet step), and about how long each is.
STEP_US = 200_000
EVENTS = {
    "python_function": 1282,
    "cann": 1134,
    "cpu_op": 860,
    "hardware": 535,
    "overlap": 382,
    "communication": 300,
    "enqueue": 159,
    "dequeue": 159,
    "flow": 608,
    "accelerator": 2752,
    "qos": 1345,
    "bandwidth": 156,
    "memory": 113,
}
_HOST, _CANN, _DEVICE, _COMMUNICATION, _OVERLAP, _COUNTERS = 41001, 2700100, 2700200, 2700300, 2700400, 2700500
_EPOCH_US = 1_790_000_000_000_000
_STACK = ";\\r\\n".join(
    f"/opt/train/package_{level}/module_{level}.py({37 * level}): function_{level}" for level in range(7)
)


def _metadata() -> Iterator[str]:
    names = {_HOST: "Python", _CANN: "CANN", _DEVICE: "Ascend Hardware", _COMMUNICATION: "HCCL",
             _OVERLAP: "Overlap Analysis", _COUNTERS: "HBM", _COUNTERS + 1: "Acc PMU", _COUNTERS + 2: "QoS",
             _COUNTERS + 3: "NPU MEM"}  # fmt: skip
    for place, (pid, name) in enumerate(names.items()):
        yield f'{{"ph": "M", "name": "process_name", "pid": {pid}, "tid": 0, "args": {{"name": "{name}"}}}}'
        yield f'{{"ph": "M", "name": "process_sort_index", "pid": {pid}, "tid": 0, "args": {{"sort_index": {place}}}}}'
    for stream in range(8):
        yield (
            f'{{"name": "thread_name", "pid": {_DEVICE}, "tid": {stream}, "args": {{"name": "Stream {stream}"}}, '
            f'"ph": "M"}}'
        )
    for tid, name in enumerate(("Computing", "Communication", "Communication(Not Overlapped)", "Free")):
        yield f'{{"name": "thread_name", "pid": {_OVERLAP}, "tid": {tid}, "args": {{"name": "{name}"}}, "ph": "M"}}'


def _step_events(rng: random.Random) -> Iterator[str]:
    """One step; each kind comes in order of time, as exporters write it. Control characters mark times and flow ids."""
    makers: dict[str, Callable[[int, str, float], str]] = {
        "cpu_op": lambda n, ts, dur: f'{{"ph": "X", "name": "aten::op_{n % 61}", "pid": {_HOST}, '
        f'"tid": {_HOST + n % 2}, '
        f'"ts": "{ts}", "dur": {dur:.2f}, "cat": "cpu_op", "args": {{"Sequence number": {n}, "Fwd thread id": 0, '
        f'"Input Dims": "32,{n % 97},224,224;\\r\\n;\\r\\n", "Input type": "float;\\r\\nScalar", '
        f'"Call stack": "{_STACK}"}}}}',
        "python_function": lambda n, ts, dur: f'{{"ph": "X", '
        f'"name": "package/module_{n % 83}.py({n % 700}): call_{n % 83}", '
        f'"pid": {_HOST}, "tid": {_HOST}, "ts": "{ts}", "dur": {dur:.2f}, "cat": "python_function", '
        f'"args": {{"Python id": {n}, "Python parent id": {n // 2}}}}}',
        "cann": lambda n, ts, dur: f'{{"name": "AscendCL@aclCall_{n % 43}", "pid": {_CANN}, "tid": {_HOST + n % 3}, '
        f'"ts": "{ts}", '
        f'"dur": {dur:.2f}, "args": {{"Thread Id": {_HOST + n % 3}, "Mode": "ACL_RTS", "level": "acl", '
        f'"id": "aclCall_{n % 43}", '
        f'"item_id": "0", "connection_id": {n}}}, "ph": "X"}}',
        "hardware": lambda n, ts, dur: f'{{"name": "aclnnKernel_{n % 71}_Op{n % 71}", "pid": {_DEVICE}, '
        f'"tid": {n % 8}, '
        f'"ts": "{ts}", "dur": {dur:.6f}, "args": {{"Model Id": 4294967295, "Task Type": "AI_VECTOR_CORE", '
        f'"Physic Stream Id": {n % 8}, "Task Id": {n}, "Batch Id": 0, "Subtask Id": 4294967295, '
        f'"connection_id": {n}}}, "ph": "X"}}',
        "overlap": lambda n, ts, dur: f'{{"name": "Computing", "pid": {_OVERLAP}, "tid": {n % 4}, "ts": "{ts}", '
        f'"dur": {dur:.3f}, "ph": "X"}}',
        "communication": lambda n, ts, dur: f'{{"name": "Notify_Wait", "pid": {_COMMUNICATION}, "tid": {n % 8}, '
        f'"ts": "{ts}", '
        f'"dur": {dur:.3f}, "args": {{"notify_id": "{n}", "duration estimated(us)": {dur / 3:.12f}, '
        f'"stream id": {n % 8}, '
        f'"task id": {n}, "context id": 0, "task type": "Notify_Wait", "src rank": 0, "dst rank": 4294967295, '
        f'"transport type": "LOCAL", "size(Byte)": {n * 512}, "data type": "INVALID", "link type": "ON_CHIP", '
        f'"bandwidth(GB/s)": {dur / 7:.12f}, "model id": 4294967295}}, "ph": "X"}}',
        "enqueue": lambda n, ts, dur: f'{{"ph": "X", "name": "Enqueue", "pid": {_HOST}, "tid": {_HOST}, "ts": "{ts}", '
        f'"dur": {dur:.2f}, "cat": "enqueue", "args": {{"correlation_id": {n}}}}}',
        "dequeue": lambda n, ts, dur: f'{{"ph": "X", "name": "Dequeue@call_{n % 29}", "pid": {_HOST}, '
        f'"tid": {_HOST + 2}, '
        f'"ts": "{ts}", "dur": {dur:.2f}, "cat": "dequeue", "args": {{"correlation_id": {n}}}}}',
        "flow": lambda n, ts, _dur: f'{{"name": "HostToDevice\x02{n:09d}", "ph": "s", "cat": "HostToDevice", '
        f'"id": "\x02{n:09d}", '
        f'"pid": {_CANN}, "tid": {_HOST + n % 3}, "ts": "{ts}"}}, {{"name": "HostToDevice\x02{n:09d}", "ph": "f", '
        f'"id": "\x02{n:09d}", "ts": "{ts}", "cat": "HostToDevice", "pid": {_DEVICE}, "tid": {n % 8}, "bp": "e"}}',
        "accelerator": lambda n, ts, _dur: f'{{"name": "read_bandwidth", "ts": "{ts}", "pid": {_COUNTERS + 1}, '
        f'"tid": 0, '
        f'"args": {{"value": {n % 17}, "acc_id": {n % 28}}}, "ph": "C"}}',
        "qos": lambda n, ts, _dur: f'{{"name": "QoS OTHERS", "ts": "{ts}", "pid": {_COUNTERS + 2}, "tid": 0, '
        f'"args": {{"value": {n}}}, "ph": "C"}}',
        "bandwidth": lambda n, ts, dur: f'{{"name": "HBM {n % 4}/Read", "ts": "{ts}", "pid": {_COUNTERS}, "tid": 0, '
        f'"args": {{"Read(MB/s)": {dur * 3:.12f}}}, "ph": "C"}}',
        "memory": lambda _n, ts, dur: f'{{"name": "APP/HBM", "ts": "{ts}", "pid": {_COUNTERS + 3}, "tid": 0, '
        f'"args": {{"KB": {dur * 1000:.1f}}}, "ph": "C"}}',
    }  # fmt: skip
    for kind, count in EVENTS.items():
        for number in range(count):
            at = STEP_US * 1000 * number // count
            time = f"\x01{_EPOCH_US + at // 1000:016d}.{at % 1000:03d}"
            yield makers[kind](number, time, rng.expovariate(1 / (0.6 * STEP_US / count)))


class _Template:
    """A piece of text in which numbers of fixed width, each behind a mark, grow from copy to copy."""

    def __init__(self, text: str, marks: dict[str, tuple[int, int]]) -> None:
        raw = text.encode()
        self.fields: list[tuple[NDArray[np.int64], NDArray[np.int64], int, int]] = []
        pattern = re.compile(b"|".join(re.escape(mark.encode()) for mark in marks))
        places = [(match.start(), match.group().decode()) for match in pattern.finditer(raw)]
        positions: dict[str, list[int]] = {mark: [] for mark in marks}
        for removed, (place, mark) in enumerate(places):
            positions[mark].append(place - removed)
        self.content = np.frombuffer(pattern.sub(b"", raw), dtype=np.uint8).copy()
        for mark, (width, growth) in marks.items():
            at = np.array(positions[mark], dtype=np.int64)
            digits = self.content[at[:, None] + np.arange(width)].astype(np.int64) - 48
            values = digits @ (10 ** np.arange(width - 1, -1, -1, dtype=np.int64))
            self.fields.append((at, values, width, growth))

    def copy(self, number: int) -> bytes:
        content = self.content.copy()
        for at, values, width, growth in self.fields:
            rest = values + number * growth
            for place in range(width - 1, -1, -1):
                content[at + place] = rest % 10 + 48
                rest //= 10
        return content.tobytes()


def write_trace(path: Path, size: int, seed: int = 0) -> None:
    """A `trace_view.json` of about `size` bytes at `path`."""
    step = _Template(", ".join(_step_events(random.Random(seed))), {"\x01": (16, STEP_US), "\x02": (9, 10_000)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(("[" + ", ".join(_metadata())).encode())
        number = 0
        while file.tell() < size:
            file.write(b", " + step.copy(number))
            number += 1
        file.write(b"]")


def write_kernels(path: Path, size: int, seed: int = 0) -> None:
    """A `kernel_details.csv` of about `size` bytes at `path`, with 46 columns."""
    rng = random.Random(seed)
    counters = [
        f"{unit}_{name}" for unit, names in (
            ("aic", ("total_cycles", "mac_time(us)", "mac_ratio", "scalar_time(us)", "scalar_ratio", "mte1_time(us)",
                     "mte1_ratio", "mte2_time(us)", "mte2_ratio", "fixpipe_time(us)", "fixpipe_ratio",
                     "icache_miss_rate")),
            ("aiv", ("time(us)", "total_cycles", "vec_time(us)", "vec_ratio", "scalar_time(us)", "scalar_ratio",
                     "mte2_time(us)", "mte2_ratio", "mte3_time(us)", "mte3_ratio", "icache_miss_rate")),
        ) for name in names
    ]  # fmt: skip
    header = (
        "Step Id,Device_id,Model ID,Task ID,Stream ID,Name,Type,OP State,Accelerator Core,Start Time(us),Duration(us),"
        "Wait Time(us),Block Dim,Mix Block Dim,HF32 Eligible,Input Shapes,Input Data Types,Input Formats,Output Shapes,"
        f"Output Data Types,Output Formats,Context ID,aicore_time(us),{','.join(counters)}\n"
    )
    lines = []
    for number in range(2400):
        at = STEP_US * 1000 * number // 2400
        kind = rng.randrange(70)
        values = ",".join(f"{rng.random() * 1000:.3f}" for _ in range(len(counters) + 1))
        if number % 97 == 0:
            values = ",".join(["N/A"] * (len(counters) + 1))
        lines.append(
            f"1,0,4294967295,{number},2,aclnnKernel_{kind}_Op{kind},Op{kind},dynamic,AI_VECTOR_CORE,"
            f"\x01{_EPOCH_US + at // 1000:016d}.{at % 1000:03d}\t,{rng.random() * 60:.3f},{rng.random() * 9:.6f},"
            "40,0,NO,"
            f'"""1,4096,{kind};{kind};""",DT_BF16;FLOAT;INT64,ND;ND;ND,"""1,4096,1024""",DT_BF16,ND,N/A,{values}\n'
        )
    step = _Template("".join(lines), {"\x01": (16, STEP_US)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header.encode())
        number = 0
        while file.tell() < size:
            file.write(step.copy(number))
            number += 1


def write_memory(folder: Path, size: int, seed: int = 0) -> None:
    """A `memory_record.csv` of about `size` bytes in `folder`, and an `operator_memory.csv` as long."""
    rng = random.Random(seed)
    records, blocks = [], []
    for number in range(20_000):
        at = STEP_US * 1000 * number // 20_000
        time = f"\x01{_EPOCH_US + at // 1000:016d}.{at % 1000:03d}"
        held = 20_000 + rng.randrange(40_000_000) / 2048
        records.append(f"PTA,{time}\t,{held:.8f},{held * 1.1:.8f},{held:.8f},2710281216,NPU:0\n")
        if number % 100 == 0:
            records.append(f"APP,{time}\t,,61440.0,,,NPU:0\n")
        end = f"\x01{_EPOCH_US + at // 1000 + 40 + rng.randrange(STEP_US // 2):016d}.{at % 1000:03d}"
        lasting = number % 1999 == 0
        blocks.append(
            f"aten::op_{number % 61},{rng.randrange(1, 9000) / 2},{time}\t,{'' if lasting else end + chr(9)},,"
            f"{'' if lasting else 40.25},,{held:.8f},{held * 1.1:.8f},{held:.8f},{held:.8f},{held * 1.1:.8f},"
            f"{held:.8f},2710281216,NPU:0\n"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, header, lines in (
        ("memory_record.csv", _RECORD, records),
        ("operator_memory.csv", _BLOCKS, blocks),
    ):
        step = _Template("".join(lines), {"\x01": (16, STEP_US)})
        with (folder / name).open("wb") as file:
            file.write(header.encode())
            number = 0
            while file.tell() < size:
                file.write(step.copy(number))
                number += 1


_RECORD = "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Total Active(MB),Stream Ptr,Device Type\n"
_BLOCKS = (
    "Name,Size(KB),Allocation Time(us),Release Time(us),Active Release Time(us),Duration(us),Active Duration(us),"
    "Allocation Total Allocated(MB),Allocation Total Reserved(MB),Allocation Total Active(MB),"
    "Release Total Allocated(MB),Release Total Reserved(MB),Release Total Active(MB),Stream Ptr,Device Type\n"
)
