"""Blocks over keys in pages are dealt as libraries deal them, and a core that walks over keys waits for what it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.attention import AttentionProblem, Walk, attention_time, dealt
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time

B1 = machine(chip("910B1"))
PR = machine(chip("Ascend950PR_9589"))
_START, _REPEATS = B1["attention_block_ns"], B1["attention_block_repeats"]


def time_ns(problem: AttentionProblem) -> float:
    return attention_time(problem, B1, 4096.0).duration


@given(
    st.sampled_from([Walk.FUSED, Walk.PAGED, Walk.LATENT]), st.integers(8, 32), st.integers(1, 300),
    st.sampled_from([1, 2, 8]), st.sampled_from([1, 2, 5, 16]), st.integers(1, 200_000),
)  # fmt: skip
def test_no_core_does_less_than_its_part_and_all_is_done(
    walk: Walk, cores: int, batch: int, kv_heads: int, group: int, keys: int
) -> None:
    blocks = batch * kv_heads
    deal = dealt(
        walk, cores, batch=batch, heads=kv_heads * group, kv_heads=kv_heads, q_len=1, blocks=blocks, keys=keys
    )  # fmt: skip
    assert 1 <= deal.busy <= cores
    assert 1 / deal.busy <= deal.share * 1.000001
    assert deal.walked * deal.busy >= blocks * keys
    assert 0 < deal.last <= 1
    assert deal.last_walked <= deal.walked
    assert deal.rounds >= 1


def test_blocks_are_dealt_one_by_one_unless_most_cores_would_be_idle() -> None:
    """The library's rule: keys from 1,024 of up to 0.4 blocks a core are shared, from 512 a core of up to 0.8."""

    def cores(batch: int, keys: int) -> int:
        return dealt(
            Walk.FUSED, 24, batch=batch, heads=8, kv_heads=1, q_len=1, blocks=batch, keys=keys
        ).busy  # fmt: skip

    assert cores(9, 1023) == 9
    assert cores(9, 1024) == 18
    assert cores(9, 8192) == 24
    assert cores(10, 8192) == 10
    assert cores(19, 24 * 512) == 24
    assert cores(20, 24 * 512) == 20


def test_a_core_of_the_older_operator_takes_heads_of_several_key_heads() -> None:
    """40 heads of 16 sequences on 24 cores: 20 heads a core first, then what is left of four sequences by 7."""
    deal = dealt(Walk.PAGED, 24, batch=16, heads=40, kv_heads=8, q_len=1, blocks=128, keys=4096)
    assert (deal.busy, deal.rounds) == (24, 2)
    assert deal.walked == (4 + 2) * 4096
    assert deal.share == pytest.approx((20 + 7) / (16 * 40))


def test_each_further_block_of_few_keys_waits_and_of_many_hides() -> None:
    short = AttentionProblem(B1.cubes, 1, 1, 1, 128, page=128)
    once, twice = (time_ns(replace(short, batch=rounds * B1.cubes)) for rounds in (1, 2))
    assert twice - once == pytest.approx(_START * _REPEATS, rel=0.1)
    long = replace(short, kv_len=8192)
    once, twice = (time_ns(replace(long, batch=rounds * B1.cubes)) for rounds in (1, 2))
    walked = 8192 * 512 / B1["walk_bytes_per_cycle"] / B1.clock_hz * 1e9
    assert twice - once == pytest.approx(walked, rel=0.15)


def test_most_of_the_older_operator_s_start_is_its_kernel_s() -> None:
    """A second block of few keys waits less than one of the newer operator, and parts of keys no longer than it."""
    short = AttentionProblem(B1.cubes, 8, 1, 1, 128, page=128, paged_by=Walk.PAGED)
    once, twice = (time_ns(replace(short, batch=rounds * B1.cubes)) for rounds in (1, 2))
    again = _START * B1["paged_block_repeats"]
    assert twice - once == pytest.approx(again, rel=0.3)
    whole, shared = (time_ns(replace(short, batch=1, heads=32, kv_heads=8, kv_len=keys)) for keys in (128, 512))
    assert shared - whole < 2 * again


def test_where_cube_and_vector_share_buffers_no_start_is_known() -> None:
    short = AttentionProblem(4, 8, 1, 1, 128, page=128)
    assert attention_time(short, PR, 4096.0).duration < _START
    assert time_ns(short) > _START


def test_the_older_operator_reads_keys_that_l2_has_as_others_do() -> None:
    """Keys of HBM keep its cores waiting longer, keys of L2 no longer than those of the newer operator."""
    problem = AttentionProblem(1, 32, 8, 1, 32768, page=128, paged_by=Walk.PAGED)
    cold, half, hot = (attention_time(problem, B1, 4096.0, hot_share=share).duration for share in (0.0, 0.5, 1.0))
    newer = attention_time(replace(problem, paged_by=Walk.FUSED), B1, 4096.0, hot_share=1.0).duration
    assert cold > half > hot
    walked = 8 * 32768 * 512 / B1.cubes / B1.clock_hz * 1e9
    waits = walked / B1["paged_walk_bytes_per_cycle"] - walked / B1["walk_bytes_per_cycle"]
    assert cold - hot == pytest.approx(waits, rel=0.3)
    assert hot == pytest.approx(newer, rel=0.1)


def test_picked_keys_of_a_query_are_one_core_s() -> None:
    problem = AttentionProblem(1, 128, 1, 1, 8192, 576, 512, shared_kv=True, top_k=2048, page=128)
    one, two = (attention_time(replace(problem, q_len=queries), B1, 4096.0) for queries in (1, 2))
    assert (one.cores, two.cores) == (1, 2)
    assert one.gm_bytes >= 3 * 2048 * 576 * 2
    assert one.duration == pytest.approx(two.duration, rel=0.2)


@pytest.mark.parametrize("walk", [Walk.FUSED, Walk.PAGED])
@pytest.mark.parametrize("latent", [False, True])
def test_queries_that_meet_no_key_take_a_kernel_even_so(walk: Walk, *, latent: bool) -> None:
    """Went wrong once: with fewer tokens than one compressed key is of there was nothing to share out."""
    none = AttentionProblem(23, 12, 2, 1, 2, page=16, ratio=4, shared_kv=latent, paged_by=walk)
    assert none.visible == 0
    assert 0 < time_ns(none) <= time_ns(replace(none, kv_len=64))


def test_the_operator_says_how_its_keys_are_dealt() -> None:
    sizes = {"batch": 200, "heads": 32, "kv_heads": 8, "q_len": 1, "kv_len": 300, "d_qk": 128, "d_v": 128, "page": 128}
    query, cache = Operand((200, 4096), "bfloat16"), Operand((3000, 128, 2048), "bfloat16")
    newer, older = (
        kernel_cost(Kernel(name, (query, cache), (query,), tuple(sizes.items())), B1).duration_ns
        for name in ("FusedInferAttentionScore", "PagedAttention")
    )
    assert older < newer / 2


def test_an_engine_runs_its_own_operator(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-8B.json")
    step = ServedStep(Phase.DECODE, 64, 512)
    newer, older = (step_time(model, Layout(), step, "910B3", engine=name) for name in ("vllm-ascend", "mindie"))
    attention = [
        sum(item.duration_ns for item in found.stages[0].ops if "Attention" in item.op.type) for found in (newer, older)
    ]
    assert attention[1] < attention[0]
    assert {item.op.type for item in older.stages[0].ops if "Attention" in item.op.type} == {"PagedAttention"}
