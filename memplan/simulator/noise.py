"""How a simulated run deviates from its plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.core.units import KIB, MIB


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    What a simulated machine does otherwise than the plan; `Behaviour.exact()` does nothing otherwise.

    Kernels: `efficiency` is the share of the planned rate that kernels reach, by what bounds them (`cube`,
    `vector`, `hbm`; others run as planned); `jitter` scatters every kernel and transfer by up to that share to both
    sides; `slow_share` of the kernels take 1.5 to `slow_factor` times as long; `slow_ops` names further slow ops as
    (index, factor). `launch_gap_ns` is the mean idle time of a stream before a kernel.

    Host: it needs `host_call_ns` to issue one op and runs ahead of the device, which has to wait for it where
    kernels are shorter than that. With `host_runs_ahead=False` it issues an op when the device starts it.

    Allocator: torch_npu's caching allocator adds `padding_bytes` to each request and rounds it up to `block_bytes`
    (`None`: sizes as planned), and takes `small_segment_bytes` or `large_segment_bytes` from the device at a time,
    or `huge_granularity_bytes` multiples for requests of half a large segment and more. `late_free_share` of the
    tensors are freed up to `late_free_steps` steps too late; `leaked_tensors` (indices) are never freed.
    `process_bytes` is what the process holds outside of the allocator, of which `modules` hold (name, bytes).
    Before a `foreign_share` of the ops the framework asks for a block that is in no plan, as large as one of the
    plan's, and keeps it for up to `foreign_steps` steps.

    With `hidden_names`, kernels and allocations are named as torch_npu names them (`simulator.hidden_names`).

    Sources: padding, block and segments from the allocations of the AlexNet profile in Ascend/msinsight
    (19,267,584 B become 18,816.5 KiB) and the defaults of torch_npu's allocator; gaps, jitter, efficiencies and
    `process_bytes` are round figures near its Qwen3-0.6B profile (APP less PTA: 1,553 MiB).
    """

    cube_efficiency: float = 0.85
    vector_efficiency: float = 0.8
    hbm_efficiency: float = 0.85
    jitter: float = 0.04
    slow_share: float = 0.01
    slow_factor: float = 3.0
    slow_ops: tuple[tuple[int, float], ...] = ()
    launch_gap_ns: int = 300
    host_call_ns: int = 1500
    host_runs_ahead: bool = True
    padding_bytes: int = 32
    block_bytes: int | None = 512
    small_request_bytes: int = MIB
    small_segment_bytes: int = 2 * MIB
    large_segment_bytes: int = 20 * MIB
    huge_granularity_bytes: int = 2 * MIB
    late_free_share: float = 0.03
    late_free_steps: int = 64
    leaked_tensors: tuple[int, ...] = ()
    process_bytes: int = 1553 * MIB
    modules: tuple[tuple[str, int], ...] = ()
    foreign_share: float = 0.0
    foreign_steps: int = 64
    hidden_names: bool = False
    step_gap_ns: int = 200_000

    def __post_init__(self) -> None:
        for name in ("cube_efficiency", "vector_efficiency", "hbm_efficiency"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}", remedy="give a share above 0 and up to 1")
        for name in ("jitter", "slow_share", "late_free_share", "foreign_share"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", remedy="give a share from 0 to below 1")
        if self.slow_factor < 1.5:
            raise InputError(f"slow_factor is {self.slow_factor}", remedy="give at least 1.5")
        for index, factor in self.slow_ops:
            if factor <= 0:
                raise InputError(f"the factor of op {index} is {factor}", remedy="give a factor above 0")
        counts = (
            "launch_gap_ns", "host_call_ns", "padding_bytes", "late_free_steps", "process_bytes", "step_gap_ns",
            "foreign_steps",
        )  # fmt: skip
        for name in counts:
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}", remedy="give 0 or more")
        if sum(size for _, size in self.modules) > self.process_bytes or any(size < 0 for _, size in self.modules):
            raise InputError("modules hold more than the process", remedy="give process_bytes that holds them")
        sizes = ("small_request_bytes", "small_segment_bytes", "large_segment_bytes", "huge_granularity_bytes")
        for name in sizes:
            if getattr(self, name) < KIB:
                raise InputError(f"{name} is {getattr(self, name)}", remedy="give at least 1 KiB")
        if self.block_bytes is not None and self.block_bytes < 1:
            raise InputError(f"block_bytes is {self.block_bytes}", remedy="give at least 1")

    @classmethod
    def exact(cls, *, slow_ops: tuple[tuple[int, float], ...] = (), leaked_tensors: tuple[int, ...] = ()) -> Behaviour:
        """A machine that does what the plan says, but for the slow ops and leaked tensors given."""
        return cls(
            cube_efficiency=1.0,
            vector_efficiency=1.0,
            hbm_efficiency=1.0,
            jitter=0.0,
            slow_share=0.0,
            slow_ops=slow_ops,
            launch_gap_ns=0,
            host_call_ns=0,
            host_runs_ahead=False,
            padding_bytes=0,
            block_bytes=None,
            late_free_share=0.0,
            leaked_tensors=leaked_tensors,
        )

    def efficiency(self, bound: str) -> float:
        """The share of the planned rate that kernels bound by `bound` reach."""
        known = {"cube": self.cube_efficiency, "vector": self.vector_efficiency, "hbm": self.hbm_efficiency}
        return known.get(bound, 1.0)


class Chance:
    """
    Random numbers that are the same on every machine and with every numpy.

    Only raw words of the generator are used, whose stream numpy guarantees, and only exact arithmetic on them: no
    logarithm or cosine, whose last digit differs between processors. `seed` is one number, or several that name what
    the numbers are for.
    """

    def __init__(self, *seed: int) -> None:
        self._words = np.random.PCG64(seed[0] if len(seed) == 1 else seed)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` numbers evenly spread over [0, 1)."""
        words = np.atleast_1d(np.asarray(self._words.random_raw(count), dtype=np.uint64))
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def spread(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in (-1, 1), densest around 0: the mean of four even ones, stretched."""
        return (self.uniform(count) + self.uniform(count) + self.uniform(count) + self.uniform(count) - 2.0) / 2.0
