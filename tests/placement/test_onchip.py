"""Buffers never share addresses while both are alive, double buffers never do, and every memory holds its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.cost import Kernel, Operand, machine
from memplan.cost.attention import AttentionProblem, attention_time
from memplan.cost.buffers import BufferNeed, attention_buffers, matmul_buffers, vector_buffers
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.products import MatmulProblem, search_tilings
from memplan.cost.vector import vector_work
from memplan.hardware import chip
from memplan.placement.onchip import onchip_picture, plan_onchip
from memplan.schema import OnChipPlan, Tier

CHIPS = {name: chip(name) for name in ("910B1", "Ascend950PR_9589", "310P3")}


@dataclass(frozen=True)
class Span:
    start: int
    end: int

    def meets(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end


def violations(plan: OnChipPlan) -> list[str]:
    """What is wrong with a plan, told from its buffers alone."""
    wrong = []
    capacities = {use.tier: use.capacity for use in plan.uses}
    for buffer in plan.buffers:
        if buffer.offset < 0 or buffer.offset + buffer.size > (capacities[buffer.tier] or 0):
            wrong.append(f"{buffer.name} leaves {buffer.tier}")
        if buffer.offset % 32:
            wrong.append(f"{buffer.name} is not aligned")
    for one, other in combinations(plan.buffers, 2):
        same = one.name.rpartition(" ")[0] == other.name.rpartition(" ")[0] and one.name[-1] != other.name[-1]
        copies = same and one.name[-1].isdigit() and other.name[-1].isdigit()
        alive = any(Span(*a).meets(Span(*b)) for a in one.intervals for b in other.intervals)
        overlap = Span(one.offset, one.offset + one.size).meets(Span(other.offset, other.offset + other.size))
        if one.tier is other.tier and (alive or copies) and overlap:
            wrong.append(f"{one.name} and {other.name} overlap")
    return wrong


@settings(max_examples=15)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 9000), st.sampled_from(sorted(CHIPS)))
def test_buffers_of_the_chosen_tiling_fit(m: int, n: int, k: int, name: str) -> None:
    problem = MatmulProblem(m=m, n=n, k=k)
    found = search_tilings(problem, machine(CHIPS[name]))
    for index in {found.best(), found.best("gm_bytes")}:
        plan = plan_onchip(matmul_buffers(problem, found.tiling(index)), CHIPS[name])
        assert plan.fits
        assert violations(plan) == []


@pytest.mark.parametrize("name", ["910B1", "Ascend950PR_9589"])
@pytest.mark.parametrize(
    "problem",
    [
        AttentionProblem(1, 16, 8, 4096, 4096),
        AttentionProblem(1, 16, 8, 4096, 4096, gradient=True),
        AttentionProblem(64, 32, 8, 1, 8192),
        AttentionProblem(32, 128, 1, 2, 8192, d_qk=576, d_v=512, shared_kv=True),
        AttentionProblem(2, 4, 4, 2048, 2048, d_qk=256, d_v=256),
    ],
)
def test_buffers_of_attention_fit(problem: AttentionProblem, name: str) -> None:
    core = machine(CHIPS[name])
    plan = plan_onchip(attention_buffers(problem, attention_time(problem, core, 4096.0), core), CHIPS[name])
    assert plan.fits
    assert violations(plan) == []


@pytest.mark.parametrize("op_type", ["Add", "SwiGlu", "RmsNorm", "Cast"])
def test_buffers_of_vector_kernels_fit_the_usable_ub(op_type: str) -> None:
    x = Operand((4096, 4096), "bfloat16")
    kernel = Kernel(op_type, (x, x), (Operand((4096, 4096), "float32"),))
    work = vector_work(kernel, op_class(op_type), machine(CHIPS["910B1"]))
    plan = plan_onchip(vector_buffers(kernel, work), CHIPS["910B1"])
    (use,) = plan.uses
    assert (use.tier, use.capacity) == (Tier.UB, CHIPS["910B1"].ub_usable_bytes)
    assert plan.fits
    assert violations(plan) == []


def test_copies_of_a_buffer_never_share_addresses() -> None:
    need = BufferNeed("x", "UB", 4096, 2, 0, 0, "MTE2", "vector")
    plan = plan_onchip([need], CHIPS["910B1"])
    assert {buffer.offset for buffer in plan.buffers} == {0, 4096}


def test_memory_is_reused_across_pipes_only_where_it_is_short() -> None:
    def needs(size: int) -> list[BufferNeed]:
        return [
            BufferNeed("in", "UB", size, 1, 0, 0, "MTE2", "vector"),
            BufferNeed("out", "UB", size, 1, 2, 2, "vector", "MTE3"),
        ]

    roomy = plan_onchip(needs(60_000), CHIPS["910B1"], iterations=1)
    assert (roomy.fits, roomy.reuse_cost) == (True, 0)
    tight = plan_onchip(needs(150_016), CHIPS["910B1"], iterations=1)
    assert (tight.fits, tight.reuse_cost) == (True, 1)


def test_what_does_not_fit_is_said_with_the_missing_bytes() -> None:
    plan = plan_onchip([BufferNeed("x", "L0C", 100_000, 2, 0, 1, "cube", "FixPipe")], CHIPS["910B1"])
    assert not plan.fits
    assert plan.shortfall >= 2 * 100_000 - 131_072


@pytest.mark.parametrize(
    "need",
    [
        BufferNeed("x", "L2", 64, 1, 0, 1, "MTE2", "MTE1"),
        BufferNeed("x", "nowhere", 64, 1, 0, 1, "MTE2", "MTE1"),
        BufferNeed("x", "UB", 0, 1, 0, 1, "MTE2", "MTE1"),
        BufferNeed("x", "UB", 64, 0, 0, 1, "MTE2", "MTE1"),
    ],
)
def test_buffers_that_make_no_sense_are_refused(need: BufferNeed) -> None:
    with pytest.raises(InputError):
        plan_onchip([need], CHIPS["910B1"])


def test_the_picture_shows_every_buffer() -> None:
    problem = MatmulProblem(m=512, n=512, k=512)
    found = search_tilings(problem, machine(CHIPS["910B1"]))
    plan = plan_onchip(matmul_buffers(problem, found.tiling(found.best())), CHIPS["910B1"])
    text = onchip_picture(plan)
    for buffer in plan.buffers:
        assert buffer.name in text
    assert max(len(line) for line in text.splitlines()) < 130
