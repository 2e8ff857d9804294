"""
Ops that ran on the host as kernels: what MindSpore's profiler writes of a run on a CPU.

`cpu_op_execute_timestamp_N.txt` has a line for each op, `name;HostCpuOps;start,duration,thread ...` with a start in
nanoseconds and a duration in milliseconds for each time it ran; `cpu_framework_N.txt` one for each launch in order,
`type;short name;thread;input_1:[32, 64];...` (MindSpore 2.10 minddata/profiler/cpu: `cpu_data_saver.cc`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.traces.decimals import nanoseconds
from memplan.traces.notes import Notebook
from memplan.traces.profile import Kernels

HOST = "HOST_CPU"
"""What the kernel table calls the unit of ops that ran on the host."""
_MOST_BYTES = 1 << 30
_NOTHING = "N/A"


def mindspore_host_kernels(times: Sequence[Path], launches: Sequence[Path], notes: Notebook) -> Kernels | None:
    """Ops that MindSpore ran on a CPU, in order of start; `None` where there are none. Times are ns."""
    runs = sorted(run for path in times for run in _runs(path, notes))
    if not runs:
        return None
    told = [launch for path in launches for launch in _launches(path)]
    names = [name for _, _, name, _ in runs]
    if [_short(name) for name in names] != [short for _, short, _ in told]:
        if told:
            notes.add(launches[0], "shapes are not shown: it lists other ops than those whose times are known")
        told = [(_type(name), "", _NOTHING) for name in names]
    threads: dict[str, int] = {}
    return host_kernels(
        [start for start, _, _, _ in runs],
        [duration for _, duration, _, _ in runs],
        [threads.setdefault(thread, len(threads)) for _, _, _, thread in runs],
        names,
        [kind for kind, _, _ in told],
        [shapes for _, _, shapes in told],
        [_NOTHING] * len(runs),
    )


def host_kernels(
    start_ns: Sequence[int],
    duration_ns: Sequence[int],
    thread: Sequence[int],
    names: Sequence[str],
    types: Sequence[str],
    input_shapes: Sequence[str],
    input_dtypes: Sequence[str],
) -> Kernels:
    """A kernel table of what ran on the host, which tells neither outputs nor counters; a stream is a thread."""
    count = len(names)
    unknown = np.full(count, -1, dtype=np.int64)
    nothing = [_NOTHING] * count
    return Kernels(
        start_ns=np.array(start_ns, dtype=np.int64),
        duration_ns=np.array(duration_ns, dtype=np.int64),
        wait_ns=unknown,
        step=unknown,
        stream=np.array(thread, dtype=np.int64),
        block_count=unknown,
        name=names,
        type=types,
        core=[HOST] * count,
        input_shapes=input_shapes,
        input_dtypes=input_dtypes,
        output_shapes=nothing,
        output_dtypes=nothing,
        pmu={},
    )


def _runs(path: Path, notes: Notebook) -> Iterator[tuple[int, int, str, str]]:
    """Start, duration, name and thread of every time that an op ran."""
    bad = 0
    for line in _lines(path):
        name, _, rest = line.partition(";")
        for run in rest.rpartition(";")[2].split():
            start, _, tail = run.partition(",")
            duration, _, thread = tail.partition(",")
            taken = nanoseconds(duration)  # as if of microseconds; the file has milliseconds
            if start.isascii() and start.isdigit() and len(start) < 20 and taken is not None and taken >= 0:
                yield int(start), taken * 1000, name, thread
            else:
                bad += 1
    if bad:
        notes.add(path, Sentence("{} runs of ops without a usable start and duration skipped", (bad,)))


def _launches(path: Path) -> Iterator[tuple[str, str, str]]:
    """Type, short name and shapes of every launch."""
    for line in _lines(path):
        kind, _, rest = line.partition(";")
        short, _, rest = rest.partition(";")
        shapes = []
        for field in rest.split(";")[1:]:
            _, _, shape = field.partition(":")
            if shape.startswith("["):
                shapes.append(shape.strip("[]").replace(" ", ""))
        yield kind, short, ";".join(shapes) or _NOTHING


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("is far larger than such a file is", path=path)
        return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if ";" in line]
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _type(name: str) -> str:
    """`MatMul` of `.../fc1-Dense/MatMul-op0`."""
    return _short(name).rpartition("-op")[0] or _short(name)
