"""The two memory curves of a comparison as a table."""

from __future__ import annotations

import csv
from pathlib import Path

from memplan.compare.result import Comparison
from memplan.core.errors import InputError
from memplan.core.files import replacing_file

_HEADER = ("plan_ns", "profile_ns", "planned_bytes", "measured_bytes")


def write_curves(result: Comparison, path: str | Path) -> None:
    """
    Write planned and measured memory as CSV: a row wherever one of them changes, valid until the next row.

    `plan_ns` is planned time from the step's start, `profile_ns` the time of the profile's clock at which the
    allocator was there. Raises `InputError` if the profile has no memory curve or `path` can't be written.
    """
    memory = result.memory
    if memory is None:
        raise InputError("the profile holds no memory curve", remedy="profile with memory, or leave --curves out")
    columns = (memory.axis_ns, memory.map.to_profile(memory.axis_ns), memory.planned, memory.measured)
    with replacing_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
