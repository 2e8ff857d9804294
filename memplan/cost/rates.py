"""The few rates of a chip that a roofline needs, with where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.hardware import Chip
from memplan.schema import Source


@dataclass(frozen=True, slots=True)
class Rates:
    """
    Rates of one chip. `cube_flops` is by dtype, FLOP/s (operations per second for integers); a dtype that the
    cube does not compute is absent. `kernel_floor_ns` is the least time any kernel takes.
    """

    cube_flops: dict[str, float]
    vector_flops: float
    hbm_bytes_per_second: float
    kernel_floor_ns: int
    sources: tuple[Source, ...]


_CUBE_DTYPES = (
    "float16",
    "bfloat16",
    "float32",
    "int8",
    "float8_e4m3",
    "float8_e5m2",
    "hifloat8",
    "float4_e2m1",
    "int4",
)


def overheads() -> Mapping[str, Any]:
    """The table of fixed costs, each with its source."""
    return table("memplan.cost", "overheads.json")


def rates(chip: Chip, *, hbm_bytes_per_second: float | None = None) -> Rates:
    """
    The roofline rates of `chip`; `hbm_bytes_per_second` stands in where the database has none.

    Raises `InputError` where one that can't be done without is not known.
    """
    bandwidth, vector = chip.hbm_bytes_per_second or hbm_bytes_per_second, chip.vector_flops("float32")
    if bandwidth is None:
        raise InputError(f"the memory bandwidth of {chip.name} is not known", remedy="choose a chip that has it")
    if vector is None:
        raise InputError(f"the vector rate of {chip.name} is not known", remedy="choose a chip that has it")
    cube = {dtype: flops for dtype in _CUBE_DTYPES if (flops := chip.cube_flops(dtype)) is not None}
    fixed = overheads()
    floor, share = fixed["kernel_floor_ns"], fixed["float32_cube_share"]
    sources = [
        Source(f"{chip.name} rates from the chip database", "peak rates of the data sheet, no efficiency applied"),
        Source(f"kernel floor {floor['value']} ns", floor["source"]),
    ]
    if "float32" not in cube and "float16" in cube and chip.npu_arch in share["npu_arch"]:
        cube["float32"] = cube["float16"] * share["value"]
        sources.append(Source(f"float32 on the cube at {share['value']:g} of the float16 rate", share["source"]))
    return Rates(
        cube_flops=cube,
        vector_flops=vector,
        hbm_bytes_per_second=bandwidth,
        kernel_floor_ns=floor["value"],
        sources=tuple(sources),
    )
