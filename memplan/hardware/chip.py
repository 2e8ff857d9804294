"""One SoC: its figures with their sources, and the few that the cost model and the planner compute with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = int | float | str | tuple[int | float, ...] | None

_MKN_KEYS: Mapping[str, tuple[str, ...]] = {
    "float16": ("mkn.Default",),
    "bfloat16": ("mkn.Default",),
    "float32": ("mkn.DT_FLOAT",),
    "int32": ("mkn.DT_INT32",),
    "int8": ("mkn.DT_INT8",),
    "uint8": ("mkn.DT_UINT8",),
    "int4": ("mkn.DT_INT4",),
    "float8_e4m3": ("mkn.DT_FLOAT8_E4M3FN",),
    "hifloat8": ("mkn.DT_HIFLOAT8",),
    "float4_e2m1": ("mkn.DT_FLOAT4_E2M1",),
}
CUBE_DTYPES = tuple(dtype for dtype in _MKN_KEYS if dtype not in ("int32", "uint8"))
"""Types whose products a cube may be asked for."""
_VECTOR_LANE_SHARE: Mapping[str, int] = {"float16": 1, "float32": 2}
"""By how much the fp16 lanes are divided. Only these two have a sourced rate."""


@dataclass(frozen=True, slots=True)
class SourcedValue:
    """
    One figure in its own `unit`, as `source` gives it.

    `also` holds what other sources say instead, `note` what to mind. `value` is `None` where the sources that were
    read do not give it. `basis` is empty where the vendor's own file or page states the value, `third party` where
    somebody else does, and `estimate` where it is reckoned from something else.
    """

    value: Scalar
    unit: str
    source: str
    also: tuple[SourcedValue, ...] = ()
    note: str = ""
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Fabric:
    """
    What joins the dies: bytes per second of one direction of one die over all its links called `link`.

    The rate holds within `reach` dies (any number if `None`), `beyond_bytes_per_second` further away. Where each die
    has a link of its own to each of `links` others, fewer dies use fewer of them. `reached` is whether the rate is what
    collectives were measured to reach, rather than what the links could carry.
    """

    link: str
    bytes_per_second: float
    latency_ns: int
    source: str
    reach: int | None = None
    beyond_bytes_per_second: float | None = None
    links: int | None = None
    reached: bool = False

    def rate(self, dies: int) -> float:
        """Bytes per second of one of so many dies that exchange."""
        if self.reach is not None and dies > self.reach:
            return self.beyond_bytes_per_second or self.bytes_per_second
        used = 1.0 if self.links is None else min(max(dies - 1, 1), self.links) / self.links
        return self.bytes_per_second * used


@dataclass(frozen=True, slots=True)
class DispatchBuffer:
    """By which `rule` (`full mesh`, `two halves`) dispatch and combine of experts size their buffer."""

    rule: str
    source: str


@dataclass(frozen=True, slots=True)
class Chip:
    """
    One SoC as CANN's platform files know it: one die, one logical device.

    `values` maps a dotted key (`l2_size`, `mkn.DT_INT8`) to its figure. The properties convert the figures that
    memplan computes with to bytes, Hz, FLOP/s and bytes per second, and are `None` where unknown. `fabric` and
    `dispatch_buffer` are the family's, `None` where no source was found.
    """

    name: str
    npu_arch: str | None
    family: str
    values: Mapping[str, SourcedValue] = field(repr=False)
    fabric: Fabric | None = None
    dispatch_buffer: DispatchBuffer | None = None

    def number(self, key: str) -> int | float | None:
        """The figure under `key` in its own unit if it is a number, else `None`."""
        entry = self.values.get(key)
        if entry is None or isinstance(entry.value, (str, tuple)):
            return None
        return entry.value

    @property
    def _vector_apart(self) -> bool:
        """Whether cube and vector are separate cores; otherwise each AI core holds both."""
        cores = self.values.get("core_type_list")
        return cores is not None and cores.value == "CubeCore,VectorCore"

    def _integer(self, key: str) -> int | None:
        found = self.number(key)
        return None if found is None else int(found)

    def _scaled(self, key: str, factor: float) -> float | None:
        found = self.number(key)
        return None if found is None else found * factor

    @property
    def hbm_bytes(self) -> int | None:
        """Physical HBM (or LPDDR) of the die."""
        return self._integer("hbm_size")

    @property
    def hbm_reserved_bytes(self) -> int | None:
        """HBM the driver keeps on an idle die."""
        return self._integer("hbm_reserved")

    @property
    def l2_bytes(self) -> int | None:
        """L2 cache."""
        return self._integer("l2_size")

    @property
    def l1_bytes(self) -> int | None:
        """L1 buffer of one AI core."""
        return self._integer("l1_size")

    @property
    def ub_bytes(self) -> int | None:
        """Unified buffer of one vector core."""
        return self._integer("ub_size")

    @property
    def l0a_bytes(self) -> int | None:
        """L0A of one AI core."""
        return self._integer("l0_a_size")

    @property
    def l0b_bytes(self) -> int | None:
        """L0B of one AI core."""
        return self._integer("l0_b_size")

    @property
    def l0c_bytes(self) -> int | None:
        """L0C of one AI core."""
        return self._integer("l0_c_size")

    @property
    def l1_usable_bytes(self) -> int | None:
        """L1 that a kernel may use; all of it where no source says how much."""
        return self._integer("l1_usable") or self.l1_bytes

    @property
    def ub_usable_bytes(self) -> int | None:
        """UB that a kernel may use with the compiler's default flags; all of it where no source says how much."""
        return self._integer("ub_usable") or self.ub_bytes

    @property
    def l0a_usable_bytes(self) -> int | None:
        """L0A that a kernel may use; all of it where no source says how much."""
        return self._integer("l0a_usable") or self.l0a_bytes

    @property
    def l0b_usable_bytes(self) -> int | None:
        """L0B that a kernel may use; all of it where no source says how much."""
        return self._integer("l0b_usable") or self.l0b_bytes

    @property
    def l0c_usable_bytes(self) -> int | None:
        """L0C that a kernel may use; all of it where no source says how much."""
        return self._integer("l0c_usable") or self.l0c_bytes

    @property
    def aic_count(self) -> int | None:
        """AI cores (cube cores where cube and vector are separate)."""
        return self._integer("aic_count")

    @property
    def aiv_count(self) -> int | None:
        """Vector cores; 0 where the vector unit sits in the AI core."""
        return self._integer("aiv_count")

    @property
    def clock_hz(self) -> int | None:
        """Clock of the cube cores."""
        found = self.number("cube_freq")
        return None if found is None else round(found * 1e6)

    @property
    def hbm_bytes_per_second(self) -> float | None:
        """Peak rate of HBM; the figure `hbm_bw` says whether a vendor states it or it is estimated."""
        return self._scaled("hbm_bw", 1e9)

    @property
    def hbm_basis(self) -> str | None:
        """What the rate of HBM rests on, as `SourcedValue.basis`; `None` where there is none."""
        return self.values["hbm_bw"].basis if "hbm_bw" in self.values else None

    def cube_flops(self, dtype: str) -> float | None:
        """
        Peak of the cube units alone in FLOP/s for inputs of `dtype`: cores x M x K x N x 2 x clock.

        `None` where the cube does not take the type. Vendors' printed TFLOPS add the vector units to this.
        """
        if dtype == "bfloat16" and not self.number("support_bf16"):
            return None
        for key in _MKN_KEYS.get(dtype, ()):
            entry = self.values.get(key)
            if entry is not None and isinstance(entry.value, tuple):
                m, k, n = entry.value
                if self.aic_count is not None and self.clock_hz is not None:
                    return float(self.aic_count * m * k * n * 2 * self.clock_hz)
        return None

    def vector_flops(self, dtype: str) -> float | None:
        """
        Peak of the vector units alone in FLOP/s for `dtype`, a fused multiply-add counting as two.

        `None` for types whose lane count no source gives (bfloat16 is computed in float32 after a cast).
        """
        share = _VECTOR_LANE_SHARE.get(dtype)
        lanes = self.number("vec_calc_size")
        clock_mhz = self.number("vec_freq") or self.number("cube_freq")
        cores = self.aiv_count if self._vector_apart else self.aic_count
        if share is None or lanes is None or clock_mhz is None or cores is None:
            return None
        return float(cores * int(lanes) // share * 2 * round(clock_mhz * 1e6))
