"""What is left of a run that ends out of memory: its memory snapshot, as torch_npu dumps it, and nothing else."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.units import MIB
from memplan.schema import Placement, Plan, PlannedOp, PlannedTensor, Tier
from memplan.simulator.caching_allocator import AllocatedBlock, CachingAllocator, DeviceFullError, occupied_bytes
from memplan.simulator.job_settings import MemoryExhaustion
from memplan.simulator.noise import Behaviour

_PIECES = 16
_LEAST_HOLE = 8 * MIB
_TICK_US = 10
_MOST_STEPS = 200


@dataclass(frozen=True, slots=True)
class FailedRun:
    """The snapshot of a run that failed, and the bytes that its last allocation asked for and lacked."""

    snapshot: Mapping[str, Any]
    asked: int
    lacking: int


def failed_run(plan: Plan, trouble: MemoryExhaustion, peak: int, steps: int) -> FailedRun:
    """
    Allocate and free the HBM placements of `plan`, step after step, until an allocation fails.

    `peak` is what the plan needs at most, bytes, of which `trouble` tells shares. What is missing is asked for at once
    when weights and states are loaded; what steps keep fills a device that has room for that of `steps`.
    """
    run = _Run(CachingAllocator(Behaviour()))
    placed = _Placed.of(plan)
    try:
        run.load(placed)
        if trouble.missing:
            asked = round(trouble.missing * peak) + run.allocator.reserved - run.allocator.allocated
            run.allocator.capacity = run.allocator.reserved + asked // 8
            run.allocate(asked, "model", "forward", 3)
        if trouble.pieces:
            hole = max(round(trouble.pieces * peak) // _PIECES // MIB * MIB, _LEAST_HOLE)
            run.break_up(hole)
            asked = hole * _PIECES // 2
            run.allocator.capacity = run.allocator.reserved + asked // 4
            run.allocate(asked, "batch", "collate")
        leak = max(round(trouble.leak * peak), MIB) if trouble.leak else 0
        run.step(placed, leak)
        if leak:
            run.allocator.capacity = run.allocator.reserved + leak * (steps - 1)
        for _ in range(_MOST_STEPS):
            run.step(placed, leak)
    except DeviceFullError as full:
        free = run.free_bytes
        run.event("oom", full.size, device_free=free)
        piece = max((block.size for block in run.allocator.blocks() if block.free), default=0)
        lacking = 0 if trouble.pieces else max(full.size - max(free, piece), 0)
        return FailedRun(run.snapshot(), full.size, lacking or full.size)
    raise InputError("the run never fails", remedy="plan a graph that keeps tensors in HBM over its steps")


def write_snapshot(path: Path, run: FailedRun) -> None:
    """The snapshot as `torch_npu.npu.memory._dump_snapshot` writes it."""
    path.write_bytes(pickle.dumps(run.snapshot, protocol=4))


@dataclass(frozen=True, slots=True)
class _Placed:
    """What a plan has in HBM: what stays over a step, and what comes and goes, in order of its start."""

    tensors: Mapping[int, PlannedTensor]
    ops: Mapping[int, PlannedOp]
    staying: Sequence[Placement]
    passing: Sequence[Placement]

    @classmethod
    def of(cls, plan: Plan) -> _Placed:
        placed = [one for one in plan.placements if one.tier is Tier.HBM and one.size > 0 and one.start < one.end]
        whole = (0, len(plan.ops))
        return cls(
            {tensor.index: tensor for tensor in plan.tensors},
            {op.index: op for op in plan.ops},
            [one for one in placed if (one.start, one.end) == whole],
            sorted((one for one in placed if (one.start, one.end) != whole), key=lambda one: one.start),
        )

    def producer(self, one: Placement) -> PlannedOp | None:
        """The op that first writes a tensor, `None` of what was there before."""
        made = self.tensors[one.tensor].producer
        return None if made is None else self.ops.get(made)


@dataclass(slots=True)
class _Run:
    allocator: CachingAllocator
    events: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    time_us: int = 0
    frame: list[dict[str, Any]] = field(default_factory=list)

    @property
    def free_bytes(self) -> int:
        """Bytes of the device that nobody has reserved."""
        return (self.allocator.capacity or 0) - self.allocator.reserved

    def event(self, action: str, size: int, address: int = 0, **more: int) -> None:
        self.time_us += _TICK_US
        self.events.append(
            {"action": action, "addr": address, "size": size, "stream": 0, "time_us": self.time_us,
             "frames": self.frame, **more}
        )  # fmt: skip

    def allocate(self, size: int, file: str, function: str, line: int = 1) -> AllocatedBlock:
        self.frame = [{"filename": f"/job/{file}.py", "line": line, "name": function}]
        reserved = self.allocator.reserved
        try:
            block = self.allocator.allocate(size)
        except DeviceFullError:
            # As PyTorch's allocator does before it gives up.
            for unused in self.allocator.release_unused():
                self.event("segment_free", unused.size, unused.address)
            reserved = self.allocator.reserved
            block = self.allocator.allocate(size)
        if self.allocator.reserved > reserved:
            self.event("segment_alloc", self.allocator.reserved - reserved, block.address)
        self.event("alloc", block.size, block.address)
        self.frames[block.address] = self.frame
        return block

    def free(self, block: AllocatedBlock) -> None:
        self.frame = []
        self.event("free_completed", block.size, block.address)
        self.allocator.free(block)

    def make(self, one: Placement, placed: _Placed) -> AllocatedBlock:
        producer = placed.producer(one)
        file = "model" if producer is None else (producer.part or producer.type).replace("/", "_")
        size = occupied_bytes(placed.tensors[one.tensor].nbytes, one.size, Behaviour())
        return self.allocate(size, file, "load" if producer is None else producer.type)

    def load(self, placed: _Placed) -> None:
        """What lives over the whole step: weights and states."""
        for one in placed.staying:
            self.make(one, placed)

    def step(self, placed: _Placed, leak: int) -> None:
        """What comes and goes within a step, and `leak` bytes that stay."""
        living: list[tuple[int, AllocatedBlock]] = []
        for one in placed.passing:
            for end, block in [pair for pair in living if pair[0] <= one.start]:
                self.free(block)
                living.remove((end, block))
            living.append((one.end, self.make(one, placed)))
        for _, block in living:
            self.free(block)
        if leak:
            self.allocate(leak, "train", "log_outputs", 88)

    def break_up(self, hole: int) -> None:
        """Segments with `hole` free bytes: what was there is gone, what was made then, and fits in no hole, stays."""
        for _ in range(_PIECES):
            self.free(self.allocate(2 * hole + 2 * MIB, "batch", "pad", 7))
            self.allocate(hole + 2 * MIB, "metrics", "keep", 12)

    def snapshot(self) -> dict[str, Any]:
        segments = []
        for blocks in self.allocator.segments():
            listed = [
                {
                    "address": block.address, "size": block.size, "requested_size": block.size,
                    "state": "inactive" if block.free else "active_allocated",
                    "frames": [] if block.free else self.frames.get(block.address, []),
                }
                for block in blocks
            ]  # fmt: skip
            used = sum(block.size for block in blocks if not block.free)
            segments.append(
                {
                    "device": 0, "address": blocks[0].address, "total_size": sum(block.size for block in blocks),
                    "allocated_size": used, "active_size": used, "stream": 0, "is_expandable": False,
                    "segment_type": "small" if blocks[0].small else "large", "blocks": listed,
                }
            )  # fmt: skip
        return {"segments": segments, "device_traces": [self.events]}
