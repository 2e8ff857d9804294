"""The peak of a real run whose model is known is explained by the tensors of its plan."""

from __future__ import annotations

from pathlib import Path

import memplan
from benchmarks.profile_labels import labelled_plan
from memplan.align import align
from memplan.core.units import MIB
from memplan.holders import join_blocks, peak_holders


def test_the_peak_of_a_training_step_is_explained(shared_data: Path) -> None:
    rank = memplan.open_profile(shared_data / "profiles" / "qwen3-0.6b-train-4rank").rank(0)
    plan = labelled_plan(shared_data)
    kernels, allocations, curve = rank.kernels(), rank.allocations(), rank.memory("PTA")
    assert kernels is not None
    assert allocations is not None
    assert curve is not None
    assert curve.allocated is not None
    alignment = align(plan, kernels)
    join = join_blocks(plan, allocations, kernels, alignment)
    found = peak_holders(plan, allocations, join, curve.time_ns, curve.allocated, alignment.scopes)
    assert found is not None
    assert found.measured == int(curve.allocated.max())
    assert found.explained >= 0.95 * found.measured
    # What was there before the profile began: weights, gradients and the optimiser's states.
    assert found.before > 4200 * MIB
    assert found.before_explained >= 0.99 * found.before
    assert abs(sum(holder.measured for holder in found.kinds.values()) - found.measured) < MIB
