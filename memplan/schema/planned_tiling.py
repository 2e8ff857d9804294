"""How the kernels of a plan are cut and what they keep on chip: each distinct one once, ops refer to it."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Sentence
from memplan.schema.tier import Tier


@dataclass(frozen=True, slots=True)
class OnChipBuffer:
    """
    One copy of a buffer: `[offset, offset + size)` of `tier`, alive in the half-open slots `intervals`.

    It is a copy of buffer `of` and is filled anew in each of the slots `fills`.
    """

    name: str
    tier: Tier
    offset: int
    size: int
    intervals: tuple[tuple[int, int], ...]
    filled_by: str
    read_by: str
    of: str = ""
    fills: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OnChipUse:
    """
    How full one memory gets: usable bytes in `capacity` (`None` if unknown), highest address used, and a proven lower
    bound. Addresses are multiples of `alignment` bytes.
    """

    tier: Tier
    capacity: int | None
    peak: int
    lower_bound: int
    lower_bound_method: str
    alignment: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of an iteration: what it does, and the pipe that does it."""

    name: str
    pipe: str


@dataclass(frozen=True, slots=True)
class OnChipPlan:
    """
    Addresses of all buffers. `fits` is whether every memory holds them, `shortfall` the missing bytes, `reuse_cost` the
    number of pairs of buffers whose shared addresses need a synchronisation between pipes. `slots` is the length of
    the unrolled pipeline of `stages`: stage `s` of iteration `i` runs in slot `i + s`.
    """

    buffers: tuple[OnChipBuffer, ...]
    uses: tuple[OnChipUse, ...]
    fits: bool
    shortfall: int
    reuse_cost: int
    slots: int
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedSentence:
    """English `text` with a `{}` for each of `values`, which are figures and names."""

    text: str
    values: tuple[str, ...] = ()

    @property
    def sentence(self) -> Sentence:
        """What it says, to be said in any language."""
        return Sentence(self.text, self.values)


@dataclass(frozen=True, slots=True)
class TileSize:
    """One size of a tiling, such as `m` or `k_l1`: elements, a number of buffers, or a name."""

    name: str
    value: int | str


@dataclass(frozen=True, slots=True)
class PipeBusy:
    """How long one pipe of a core is busy with a kernel, in nanoseconds: the mean over the cores that it uses."""

    name: str
    busy_ns: float


@dataclass(frozen=True, slots=True)
class PlannedTiling:
    """
    One kernel as it meets L2: `kernel` is its index in `Plan.kernels`, `hot_share` the share of its reads that L2 holds
    beforehand.

    `tile` has the sizes it is cut in and `words` says the same; `missing` says why there is no tiling, `notes` what is
    left out. `onchip` is the index in `Plan.onchip` of its buffers, `None` where none are modelled. `gm_bytes` crosses
    between the cores and GM, of which `hbm_bytes` reaches HBM and L2 serves the rest; `gm_bound` are bytes that cross
    whatever the tiling (`None`: no bound is known). `pipes` and `duration_ns` are predicted for one launch, `bound` is
    what limits it.
    """

    kernel: int
    hot_share: float | None
    onchip: int | None
    tile: tuple[TileSize, ...]
    words: tuple[PlannedSentence, ...]
    missing: PlannedSentence | None
    notes: tuple[PlannedSentence, ...]
    duration_ns: int
    bound: str
    flops: int
    gm_bytes: int
    hbm_bytes: int
    gm_bound: int | None
    pipes: tuple[PipeBusy, ...]

    @property
    def l2_bytes(self) -> int:
        """Bytes that L2 serves."""
        return max(self.gm_bytes - self.hbm_bytes, 0)
