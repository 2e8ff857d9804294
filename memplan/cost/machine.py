"""
The AI core as the cost model computes with it: pipes, their rates and what is lost on each, all with sources.

Everything comes from the chip database and from `machine.json`; a figure that no source gives for a generation is
inherited from the nearest one, and the machine says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.cost.calibration import Calibration
from memplan.hardware import CUBE_DTYPES, Chip, Link, chips, links
from memplan.schema import Source


@dataclass(frozen=True, slots=True)
class Machine:
    """
    One die. Sizes are bytes of one core's buffers (L2: of the die), rates bytes per cycle of one core unless they are
    named per second, `macs` multiply-accumulates per cycle of one cube core by dtype.

    `hbm_basis` is empty where a vendor states the rate of HBM, else `third party` or `estimate`.
    `constants` are the efficiencies and overheads of `machine.json` by name; a `calibration` corrects the times.
    """

    name: str
    family: str
    npu_arch: str
    cubes: int
    vectors: int
    clock_hz: float
    vector_clock_hz: float
    lanes: int
    macs: Mapping[str, float] = field(hash=False)
    l0a: int
    l0b: int
    l0c: int
    l1: int
    ub: int
    l2: int
    l1_to_l0a: float
    l1_to_l0b: float
    hbm_bytes_per_second: float
    hbm_basis: str
    constants: Mapping[str, float] = field(hash=False)
    direct: bool
    interconnect: tuple[Link, ...]
    sources: tuple[Source, ...]
    calibration: Calibration | None = None

    def __getitem__(self, name: str) -> float:
        """The constant called `name`."""
        return self.constants[name]

    def mac_rate(self, dtype: str) -> float | None:
        """Multiply-accumulates per cycle of one cube core, `None` if it lacks the type; 8-bit floats share a rate."""
        return self.macs.get("float8_e4m3" if dtype == "float8_e5m2" else dtype)

    def product_rate(self, dtype: str) -> float | None:
        """`mac_rate` as far as kernels of the generation reach it whatever their tiling."""
        rate = self.mac_rate(dtype)
        return None if rate is None else rate * self["cube_share"]

    def cube_peak(self, dtype: str) -> float | None:
        """FLOP/s (operations for integers) of all cube cores, `None` for a type that they do not multiply."""
        rate = self.mac_rate(dtype)
        return None if rate is None else 2 * rate * self.cubes * self.clock_hz

    @property
    def vector_peak(self) -> float:
        """FLOP/s of all vector cores in float32, a fused multiply-add counting as two."""
        return self.vectors * (self.lanes // 2) * 2 * self.vector_clock_hz

    def convolution_rate(self, dtype: str) -> float | None:
        """`product_rate` of a convolution: float32 ones use HF32 where the cube has it, as frameworks do by default."""
        half = self.macs.get("float16")
        if dtype == "float32" and "float32" in self.macs and half is not None:
            return max(self.macs["float32"], self["hf32_share"] * half) * self["cube_share"]
        return self.product_rate(dtype)

    def element_lanes(self, width: int) -> float:
        """Elements of `width` bytes that one vector core handles in a cycle; halves are computed as float32 or less."""
        return self.lanes * 2 / max(width, 2)

    def vector_rate(self, cores: int) -> float:
        """Elements of 4 bytes that one instruction after the other of `cores` vector cores handles in a second."""
        return self.element_lanes(4) * self["vector_efficiency"] * cores * self.vector_clock_hz

    @property
    def l2_read_per_second(self) -> float:
        """Bytes per second from L2 into the L1 of all cube cores."""
        return self["l2_to_l1_bytes_per_cycle"] * self.cubes * self.clock_hz

    @property
    def l2_write_per_second(self) -> float:
        """Bytes per second that all vector cores write into L2."""
        return self["l2_write_bytes_per_cycle"] * self.vectors * self.vector_clock_hz

    def stays_in_l2(self, moved: float) -> float:
        """The share of what a kernel writes that is still in L2 at its end, if it moves so many bytes in all."""
        return min(1.0, max(0.0, self["stays_in_l2_from"] - self["stays_in_l2_slope"] * moved / self.l2))

    def head_ns(self, cubes: int, vectors: int) -> float:
        """What a launch on that many cores costs before and after its work, in nanoseconds."""
        each = self["head_ns_per_vector_core_beside" if cubes else "head_ns_per_vector_core"]
        spread = self["head_ns_per_cube_core"] * cubes + each * max(vectors - 1, 0)
        return self["head_ns"] + spread + self["core_start_ns"]


@cache
def shared_constants() -> Mapping[str, float]:
    """The constants that hold for every generation: shares of L2, thresholds, AI CPU ops."""
    return MappingProxyType(
        {key: float(entry["value"]) for key, entry in table("memplan.cost", "machine.json")["all_generations"].items()}
    )


def _constants(npu_arch: str) -> tuple[dict[str, Any], list[str]]:
    """Entries of a generation with what it inherits, and the generations it took them from."""
    document = table("memplan.cost", "machine.json")
    generations = document["generations"]
    chain = []
    name: str | None = npu_arch if npu_arch in generations else document["fallback"]
    while name is not None:
        chain.append(name)
        name = generations[name]["inherits"]
    entries: dict[str, Any] = {}
    for name in reversed(chain):
        entries.update({key: entry for key, entry in generations[name].items() if isinstance(entry, dict)})
    return entries, chain


def machine(chip: Chip, *, clock_hz: float | None = None, cubes: int | None = None) -> Machine:
    """
    The machine of `chip`; `clock_hz` and `cubes` put another clock or core count in place of the database's, for a
    profile that shows them.

    Raises `InputError` where the database lacks what can't be done without.
    """
    entries, chain = _constants(chip.npu_arch or "")
    aic, clock, bandwidth = chip.aic_count, chip.clock_hz, chip.hbm_bytes_per_second
    if bandwidth is None:
        raise InputError("the memory bandwidth of {} is not known", chip.name, remedy="choose a chip that has it")
    if chip.vector_flops("float32") is None:
        raise InputError("the vector rate of {} is not known", chip.name, remedy="choose a chip that has it")
    sizes = (chip.l0a_usable_bytes, chip.l0b_usable_bytes, chip.l0c_usable_bytes, chip.l1_usable_bytes,
             chip.ub_usable_bytes, chip.l2_bytes)  # fmt: skip
    if aic is None or clock is None or any(size is None for size in sizes):
        raise InputError("cores, clock or buffers of {} are not known", chip.name, remedy="choose a chip that has them")
    l0a, l0b, l0c, l1, ub, l2 = (int(size or 0) for size in sizes)
    vector_clock = (chip.number("vec_freq") or chip.number("cube_freq") or 0) * 1e6
    ratio = (clock_hz or clock) / clock
    sources = [
        Source(f"{chip.name} rates from the chip database", "peaks of the data sheet, of which the model takes shares"),
        Source(
            "AI-core model", f"constants of generation {' from '.join(chain)}, each with its source in machine.json"
        ),
    ]
    listed = chain[0] == chip.npu_arch
    if not listed or not table("memplan.cost", "machine.json")["generations"][chain[0]].get("measured"):
        rests = f"{chip.name}: constants of {chain[-1]}"
        sources.append(Source(rests, "this generation has no measurements of its own"))
    if chip.hbm_basis:
        sources.append(Source(f"HBM {bandwidth / 1e12:g} TB/s ({chip.hbm_basis})", chip.values["hbm_bw"].source))
    return Machine(
        name=chip.name,
        family=chip.family,
        npu_arch=chip.npu_arch or chain[0],
        cubes=cubes or aic,
        vectors=_vectors(chip, cubes or aic),
        clock_hz=clock_hz or clock,
        vector_clock_hz=float(round(vector_clock * ratio)),
        lanes=int(chip.number("vec_calc_size") or 128),
        macs=MappingProxyType(
            _macs(chip, aic, clock, float(entries["float32_cube_share"]["value"]) if listed else 0.0)
        ),
        l0a=l0a,
        l0b=l0b,
        l0c=l0c,
        l1=l1,
        ub=ub,
        l2=l2,
        l1_to_l0a=float(chip.number("l1_to_l0a_bw") or chip.number("rates_aicore.l1_to_l0_a_rate") or 256),
        l1_to_l0b=float(chip.number("l1_to_l0b_bw") or chip.number("rates_aicore.l1_to_l0_b_rate") or 128),
        hbm_bytes_per_second=bandwidth,
        hbm_basis=chip.hbm_basis or "",
        constants=MappingProxyType(_reached(entries, chip) | dict(shared_constants())),
        direct=entries["cube_to_vector"]["value"] == "direct",
        interconnect=links(chip),
        sources=tuple(sources),
    )


_OF_HBM = "hbm_read_share", "hbm_nd2nz_share", "hbm_mixed_share", "hbm_write_share"


def _reached(entries: Mapping[str, Any], chip: Chip) -> dict[str, float]:
    """A generation's constants, those that are shares of HBM's rate as far as `chip` reaches what 910B does of it."""
    constants = {key: float(entry["value"]) for key, entry in entries.items() if not isinstance(entry["value"], str)}
    reached = chip.number("hbm_reached") or 1.0
    return constants | {key: constants[key] * reached for key in _OF_HBM}


def _vectors(chip: Chip, cubes: int) -> int:
    """Vector cores next to `cubes` cube cores; the cores themselves where both units share one."""
    apart = chip.values.get("core_type_list")
    if apart is None or apart.value != "CubeCore,VectorCore" or not chip.aiv_count or not chip.aic_count:
        return cubes
    return cubes * chip.aiv_count // chip.aic_count


def _macs(chip: Chip, cubes: int, clock_hz: float, float32_share: float) -> dict[str, float]:
    """Multiply-accumulates per cycle of one cube core by dtype; float32 at a share of float16 where no file has it."""
    peaks = {dtype: flops for dtype in CUBE_DTYPES if (flops := chip.cube_flops(dtype)) is not None}
    if "float32" not in peaks and float32_share:
        peaks["float32"] = peaks["float16"] * float32_share
    return {dtype: flops / 2 / cubes / clock_hz for dtype, flops in peaks.items()}


def calibrated(base: Machine, calibration: Calibration) -> Machine:
    """`base` with its times corrected by `calibration`; raises `InputError` for one of another chip."""
    if calibration.chip != base.name:
        raise InputError(
            "the calibration is of {}, not of {}",
            calibration.chip,
            base.name,
            remedy=Sentence("plan for {}", (calibration.chip,)),
        )
    return replace(base, calibration=calibration, sources=(*base.sources, calibration.source))


def bandwidths() -> dict[str, float]:
    """Peak HBM rate in bytes per second of every chip that somebody states one for; estimates are left out."""
    return {
        chip.name: chip.hbm_bytes_per_second
        for chip in chips()
        if chip.hbm_bytes_per_second is not None and chip.hbm_basis != "estimate"
    }
