"""Large databases as torch_npu exports them, made up: kernels of four streams, host calls, counters, memory."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.traces.excerpts import DATABASE

_NAMES = 2_000
_BLOCKS_PER_KERNEL = 0.46


def write_database(folder: Path, kernels: int, seed: int = 0) -> Path:
    """
    The profile of one rank in `folder`, of so many kernels; returns its database.

    1,500,000 kernels take 260 MB: as many calls of PyTorch and of CANN, a counter of each, and 700,000 blocks of memory
    with a sample of the allocator's curve for each.
    """
    output = folder / "rank0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    path = output / "ascend_pytorch_profiler_0.db"
    rng = random.Random(seed)

    def tasks() -> Iterator[tuple[int, ...]]:
        at = 10_000
        for number in range(kernels):
            length = rng.randrange(500, 20_000)
            yield at, at + length, 6, 100 + number, 100 + number, 1, 3, 0, 2 + number % 4, number, 0
            at += length // 4 + 200

    every, blocks = range(kernels), range(round(kernels * _BLOCKS_PER_KERNEL))
    with closing(sqlite3.connect(path)) as data, data:
        data.executescript(DATABASE)
        for table, rows in (
            ("STRING_IDS", ((100 + number, f"op_{number}") for number in range(_NAMES))),
            ("TASK", tasks()),
            ("COMPUTE_TASK_INFO", ((100 + row % _NAMES, 100 + row, 20, 2, 3, 4, 5, 6, 7) for row in every)),
            ("TASK_PMU_INFO", ((100 + row, 12, float(row % 1000)) for row in every)),
            ("PYTORCH_API", ((10_000 + row * 2600, 12_000 + row * 2600, 78, row, 100 + row % _NAMES, 50001)
                             for row in every)),
            ("CANN_API", ((10_100 + row * 2600, 11_100 + row * 2600, 5000, 77, 100 + row, 100 + row % 50)
                          for row in every)),
            ("MEMORY_RECORD", ((14, 10_000 + at * 5000, at % 5000 * 1024, 6_000_000, at % 5000 * 1024, 0, 6)
                               for at in blocks)),
            ("OP_MEMORY", ((100 + at % _NAMES, 1024 * (1 + at % 64), 10_000 + at * 5000, 50_000 + at * 5000)
                           for at in blocks)),
        ):  # fmt: skip
            (columns,) = data.execute("SELECT count(*) FROM pragma_table_info(?)", (table,)).fetchone()
            data.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)
    return path
