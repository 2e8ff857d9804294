"""Figures that follow from others of the same chip: peaks of its units, and rates by the hints of its platform file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from memplan.hardware.chip import Chip, SourcedValue

_PEAKS = {
    "cube_tflops_fp16": "float16",
    "cube_tflops_bf16": "bfloat16",
    "cube_tops_int8": "int8",
    "cube_tflops_fp8": "float8_e4m3",
    "cube_tflops_fp4": "float4_e2m1",
}
_VECTOR_PEAKS = {"vector_tflops_fp16": "float16", "vector_tflops_fp32": "float32"}
_HINTS = {"hbm_bw_ini": "rates_aicore.ddr_rate", "l2_bw_ini": "rates_aicore.l2_read_rate"}


def with_derived(chip: Chip, described: Mapping[str, SourcedValue]) -> Chip:
    """
    `chip` with the figures that `described` gives unit and source of, as far as the chip's own figures allow.

    A chip whose HBM rate (`hbm_bw`) no source states gets the one that the tiling hint of its platform file comes to,
    marked as an estimate.
    """
    values = dict(chip.values)
    for key, dtype in _PEAKS.items():
        _add(values, described[key], key, _tera(chip.cube_flops(dtype)), 2)
    for key, dtype in _VECTOR_PEAKS.items():
        _add(values, described[key], key, _tera(chip.vector_flops(dtype)), 3)
    for key, hint in _HINTS.items():
        rate, cores, clock_mhz = chip.number(hint), chip.aic_count, chip.number("cube_freq")
        if rate is not None and cores is not None and clock_mhz is not None:
            _add(values, described[key], key, rate * cores * clock_mhz / 1000, 1)
    if "hbm_bw" not in values and "hbm_bw_ini" in values:
        note = "by the platform file's hint to tilings: no source states the rate"
        values["hbm_bw"] = replace(values["hbm_bw_ini"], note=note, basis="estimate")
    return replace(chip, values=MappingProxyType(values))


def _tera(rate: float | None) -> float | None:
    return None if rate is None else rate / 1e12


def _add(values: dict[str, SourcedValue], described: SourcedValue, key: str, value: float | None, digits: int) -> None:
    if value is not None:
        values[key] = replace(described, value=round(value, digits))
