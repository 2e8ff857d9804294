"""Blocks of simulated runs, their names hidden, are joined to the planned tensors that they are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.align import Alignment, align
from memplan.core.units import MIB
from memplan.holders import JOINED_BY, BlockJoin, JoinedBy, PeakHolders, join_blocks, peak_holders
from memplan.schema import Plan
from memplan.simulator import Behaviour, simulate
from memplan.traces.process_memory import process_memory
from memplan.traces.profile import Allocations, Kernels, MemoryCurve
from memplan.traces.rank import RankProfile
from tests.align.simulated_runs import model_plans

ENOUGH = 0.97
PLANS = ["qwen3 PP2 DP2", "qwen3 last stage", "llama recomputed", "qwen3 moe EP4", "mixtral GPipe", "llama prefill"]
DISTURBED = Behaviour(hidden_names=True, foreign_share=0.05, late_free_share=0.05)


@dataclass(frozen=True)
class Run:
    """A simulated run with the planned tensor of each block, -1 for what no plan has."""

    plan: Plan
    rank: RankProfile
    kernels: Kernels
    blocks: Allocations
    curve: MemoryCurve
    truth: Sequence[int]

    def peak(self, join: BlockJoin, alignment: Alignment | None = None) -> PeakHolders:
        assert self.curve.allocated is not None
        scopes = alignment.scopes if alignment is not None else None
        found = peak_holders(self.plan, self.blocks, join, self.curve.time_ns, self.curve.allocated, scopes)
        assert found is not None
        return found

    def right_at_peak(self, join: BlockJoin) -> float:
        """Share of the bytes at the peak for which the join is right; what was there before counts as right."""
        peak = self.peak(join)
        release = self.blocks.release_ns
        live = (self.blocks.allocation_ns <= peak.time_ns) & ((release < 0) | (release > peak.time_ns))
        wrong = live & (join.tensor != np.array(self.truth))
        return 1 - int(self.blocks.size[wrong].sum()) / peak.measured


def run(plan: Plan, folder: Path, behaviour: Behaviour, *, steps: int = 1, seed: int = 3) -> Run:
    simulate(plan, folder / "run", behaviour=behaviour, steps=steps, seed=seed)
    rank = memplan.open_profile(folder / "run").rank(0)
    kernels, blocks, curve = rank.kernels(), rank.allocations(), rank.memory("PTA")
    assert kernels is not None
    assert blocks is not None
    assert curve is not None
    truth: list[int] = []
    if behaviour.hidden_names:
        with (folder / "run" / "truth_blocks.csv").open(encoding="utf-8") as file:
            truth = [int(row["tensor"]) for row in csv.DictReader(file)]
        assert not set(blocks.name) & {op.name for op in plan.ops}
    return Run(plan, rank, kernels, blocks, curve, truth)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", PLANS)
def test_blocks_at_the_peak_are_the_tensors_they_are(name: str, steps: int, shared_data: Path, tmp_path: Path) -> None:
    found = run(model_plans(shared_data / "configs")[name], tmp_path, DISTURBED, steps=steps, seed=steps)
    alignment = align(found.plan, found.kernels)
    join = join_blocks(found.plan, found.blocks, found.kernels, alignment)
    assert found.right_at_peak(join) >= ENOUGH
    peak = found.peak(join, alignment)
    assert sum(holder.measured for holder in peak.kinds.values()) == peak.measured
    assert peak.before_explained >= ENOUGH * peak.before


@pytest.mark.parametrize("name", PLANS)
def test_without_kernels_order_and_size_tell(name: str, shared_data: Path, tmp_path: Path) -> None:
    found = run(model_plans(shared_data / "configs")[name], tmp_path, DISTURBED, seed=5)
    join = join_blocks(found.plan, found.blocks)
    assert found.right_at_peak(join) >= ENOUGH
    assert set(join.how[join.tensor >= 0].tolist()) <= {JOINED_BY.index(way) for way in (JoinedBy.ORDER, JoinedBy.SIZE)}


def test_names_tell_where_the_plan_has_them(shared_data: Path, tmp_path: Path) -> None:
    plan = model_plans(shared_data / "configs")["qwen3 PP2 DP2"]
    found = run(plan, tmp_path, Behaviour(late_free_share=0.0), steps=2)
    join = join_blocks(plan, found.blocks, found.kernels)
    assert (join.how[join.tensor >= 0] == JOINED_BY.index(JoinedBy.NAME)).all()
    assert found.peak(join).explained >= 0.99 * found.peak(join).measured


def test_what_is_never_freed_is_held_longer_and_the_op_that_should_have_is_named(
    shared_data: Path, tmp_path: Path
) -> None:
    plan = model_plans(shared_data / "configs")["qwen3 PP2 DP2"]
    leaked = [
        tensor
        for tensor in plan.tensors
        if tensor.name.endswith("layers.2.activation.active") or "layers.1.activation.dx" in tensor.name
    ]
    leaked = (
        leaked or [tensor for tensor in plan.tensors if tensor.kind == "activation" and tensor.nbytes > 16 * MIB][:2]
    )
    behaviour = Behaviour(hidden_names=True, late_free_share=0.0, leaked_tensors=(leaked[0].index,))
    found = run(plan, tmp_path, behaviour, steps=2)
    alignment = align(plan, found.kernels)
    join = join_blocks(plan, found.blocks, found.kernels, alignment)
    held = found.peak(join, alignment).held_longer
    assert any(row.op == leaked[0].end - 1 and row.nbytes >= leaked[0].nbytes for row in held)


def test_blocks_from_before_a_cut_are_explained_too(shared_data: Path, tmp_path: Path) -> None:
    """A profile that begins inside a step lists what is freed later without its beginning."""
    found = run(model_plans(shared_data / "configs")["qwen3 PP2 DP2"], tmp_path, DISTURBED)
    cut = int(np.quantile(found.blocks.allocation_ns, 0.3))
    before = found.blocks.allocation_ns < cut
    kept = ~before | (found.blocks.release_ns > cut)
    allocated = np.where(before, -1, found.blocks.allocation_ns)[kept]
    order = np.argsort(allocated, kind="stable")
    blocks = Allocations(
        [name for name, keep in zip(found.blocks.name, kept.tolist(), strict=True) if keep],
        found.blocks.size[kept][order],
        allocated[order],
        found.blocks.release_ns[kept][order],
    )
    join = join_blocks(found.plan, blocks)
    peak = replace(found, blocks=blocks).peak(join)
    assert peak.explained >= 0.93 * peak.measured  # 5 % of the ops ask for a block that no plan has


def test_the_modules_of_the_process_are_items(shared_data: Path, tmp_path: Path) -> None:
    modules = (("HCCL", 1000 * MIB), ("RUNTIME", 60 * MIB), ("ASCENDCL", 7 * MIB))
    behaviour = Behaviour(process_bytes=1100 * MIB, modules=modules)
    found = run(model_plans(shared_data / "configs")["mixtral GPipe"], tmp_path, behaviour)
    memory = process_memory(found.rank.memory_curves())
    assert memory is not None
    assert memory.gap == 1100 * MIB
    assert memory.rest == 33 * MIB
    assert {(item.name, item.nbytes) for item in memory.items if item.part.value == "module"} == set(modules)
