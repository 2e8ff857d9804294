"""Attention meets exactly the keys that its pattern shows, and moves at least what it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.attention import AttentionProblem, attention_time
from memplan.hardware import chip

B1 = machine(chip("910B1"))
PR = machine(chip("Ascend950PR_9589"))


def reference_pairs(p: AttentionProblem) -> int:
    """Keys met, query by query."""
    total = 0
    for position in range(p.kv_len - p.q_len, p.kv_len):
        keys = list(range(position + 1 if p.causal else p.kv_len))
        if p.chunk:
            keys = [key for key in keys if key // p.chunk == position // p.chunk][: p.chunk]
        sparse = p.ratio > 1 or p.top_k
        if p.window and not sparse:
            keys = keys[-p.window :]
        near = min(len(keys), p.window) if p.window and sparse else 0
        far = len(keys) // p.ratio
        total += (min(far, p.top_k) if p.top_k else far) + near
    return total * p.batch * p.heads


@given(
    st.integers(1, 40), st.integers(0, 60), st.sampled_from([0, 5, 16]), st.sampled_from([0, 8]),
    st.sampled_from([1, 4]), st.sampled_from([0, 3]),
)  # fmt: skip
def test_pairs_are_those_of_the_pattern(q: int, before: int, window: int, chunk: int, ratio: int, top_k: int) -> None:
    problem = AttentionProblem(2, 3, 1, q, q + before, window=window, chunk=chunk, ratio=ratio, top_k=top_k)
    assert problem.pairs == reference_pairs(problem)


def test_full_attention_is_two_products_of_all_pairs() -> None:
    problem = AttentionProblem(2, 16, 16, 1024, 4096, causal=False)
    assert problem.flops == 4 * 2 * 16 * 1024 * 4096 * 128
    assert replace(problem, gradient=True).flops == 10 * 2 * 16 * 1024 * 4096 * 128


def test_decode_waits_for_its_kv_cache() -> None:
    problem = AttentionProblem(64, 32, 8, 1, 8192)
    time = attention_time(problem, B1, 4096.0)
    cache = 64 * 8 * 8192 * 256 * 2
    assert time.hbm_bytes == pytest.approx(cache, rel=0.01)
    assert time.duration >= cache / 1.6e12 * 1e9
    # Cores wait for keys of their own, which all of them together read slower than HBM gives.
    assert 1.0 < time.duration / (cache / (1.6e12 * B1["hbm_read_share"]) * 1e9) < 1.35


def test_keys_in_no_pages_are_dealt_a_sequence_and_key_head_at_a_time() -> None:
    """Cores wait for keys that lie apart from each other, and blocks of the same keys find them in L2."""
    paged = AttentionProblem(64, 32, 8, 1, 8192, page=128)
    apart = attention_time(replace(paged, page=0), B1, 4096.0)
    assert 1.03 < apart.duration / attention_time(paged, B1, 4096.0).duration < 1.4
    short, start = AttentionProblem(64, 32, 8, 1, 64), B1["attention_block_ns"]
    rounds = -(-64 * 8 // B1.cubes)
    taken = attention_time(short, B1, 4096.0).duration - B1.head_ns(B1.cubes, B1.vectors)
    assert taken >= start + (rounds - 1) * start * B1["paged_block_repeats"]
    # Drafts of latent attention are two blocks of 128 rows, of which the second finds its keys in L2.
    latent = AttentionProblem(24, 128, 1, 1, 8192, d_qk=576, d_v=512, shared_kv=True)
    drafted = attention_time(replace(latent, q_len=2), B1, 4096.0).duration
    assert drafted < 1.6 * attention_time(latent, B1, 4096.0).duration


def test_indexers_start_every_core() -> None:
    """However little there is to score, as their tiling does."""
    scores = AttentionProblem(1, 8, 1, 1, 256, d_v=0, indexer=True)
    assert attention_time(scores, B1, 4096.0).duration >= B1.head_ns(B1.cubes, B1.vectors) + B1["attention_block_ns"]


def test_latent_blocks_of_3510_have_64_rows() -> None:
    """Their sums fill L0C, so that what the cube side does comes one behind the other."""
    latent = AttentionProblem(32, 128, 1, 1, 8192, d_qk=576, d_v=512, shared_kv=True)
    core = machine(chip("Ascend950PR_9589"))
    time = attention_time(latent, core, 4096.0)
    assert (time.block_q, time.block_kv) == (64, 128)
    assert time.duration > time.cube + time.mte1 + time.fixpipe


def test_drafts_of_grouped_heads_share_what_is_read_of_their_keys() -> None:
    """Heads of a KV head are folded into blocks of 128 rows: of 16, four queries into one block, 32 into four."""
    one = AttentionProblem(32, 64, 4, 1, 4096)
    keys = 32 * 4 * 4096 * 256 * 2
    few, four, many, long = (attention_time(replace(one, q_len=queries), B1, 4096.0) for queries in (1, 4, 32, 65))
    assert few.gm_bytes < 1.5 * keys
    assert four.gm_bytes < 3 * keys, "scores of four queries pass through GM beside the keys"
    assert 4 * keys < many.gm_bytes < long.gm_bytes
    assert long.gm_bytes > 16 * keys, "of longer chunks each head walks over its keys"
    assert four.hbm_bytes < 1.1 * keys, "which come from HBM once"


def test_drafts_of_latent_attention_share_what_is_read() -> None:
    one = AttentionProblem(32, 128, 1, 1, 4096, d_qk=576, d_v=512, shared_kv=True)
    times = [attention_time(replace(one, q_len=q), B1, 4096.0).duration for q in (1, 4)]
    assert times[1] < 4.5 * times[0]


def test_shared_keys_and_values_are_read_once() -> None:
    mla = AttentionProblem(32, 128, 1, 1, 8192, d_qk=576, d_v=512, shared_kv=True)
    apart = replace(mla, shared_kv=False)
    assert mla.compulsory_bytes < 0.6 * apart.compulsory_bytes


def test_scores_pass_through_gm_only_where_cube_and_vector_share_no_buffer() -> None:
    problem = AttentionProblem(1, 16, 8, 4096, 4096)
    assert attention_time(problem, B1, 4096.0).gm_bytes > 3 * attention_time(problem, PR, 4096.0).gm_bytes


def test_blocks_that_are_dealt_have_a_time_even_where_l1_is_too_small() -> None:
    """Went wrong once: blocks of one size that did not fit were none to choose from."""

    def took(q_bytes: float) -> float:
        latents = AttentionProblem(
            16, 128, 1, 1, 4096, d_qk=576, d_v=512, q_bytes=q_bytes, kv_bytes=q_bytes, shared_kv=True, page=128
        )
        return attention_time(latents, B1, 8192).duration

    assert took(2.0) < took(4.0) < 4 * took(2.0)


def test_sparse_attention_is_cheaper_than_full() -> None:
    full = AttentionProblem(8, 128, 1, 1, 131072, d_qk=576, d_v=512, shared_kv=True)
    sparse = replace(full, top_k=2048)
    assert attention_time(sparse, B1, 4096.0).duration < 0.1 * attention_time(full, B1, 4096.0).duration


@pytest.mark.parametrize("gradient", [False, True])
def test_longer_sequences_take_longer(gradient: bool) -> None:
    times = [
        attention_time(AttentionProblem(1, 16, 8, s, s, gradient=gradient), B1, 4096.0).duration
        for s in (512, 1024, 2048, 4096, 8192)
    ]
    assert times == sorted(times)


def test_small_pages_cost_rate() -> None:
    problem = AttentionProblem(64, 8, 1, 1, 8192)
    paged = replace(problem, page=1)
    assert attention_time(paged, B1, 4096.0).duration > 1.2 * attention_time(problem, B1, 4096.0).duration


def test_a_mask_of_floats_and_dropout_are_read_and_computed_with() -> None:
    """An added mask has an element a pair, what is kept one bit; either makes the vector units work on every pair."""
    core = machine(chip("910B1"))
    side, heads = 2048, 4
    query = Operand((side, 1, heads * 128), "bfloat16")
    rows = Operand((1, heads, side, 8), "float32")
    mask = Operand((1, 1, side, side), "bfloat16")
    kept = Operand((heads * side * side // 8 + 32,), "uint8")

    def took(*extra: Operand) -> int:
        return kernel_cost(
            Kernel("FlashAttentionScore", (query, query, query, *extra), (rows, query)), core
        ).duration_ns

    assert took() < took(kept) < took(mask) < took(mask, kept)
    assert took(Operand((17,), "uint8")) == took()


@pytest.mark.parametrize("gradient", [False, True])
def test_the_first_library_s_attention_is_told_by_its_mask_and_its_cores_wait_for_each_other(gradient: bool) -> None:
    row = Operand((2048, 4, 512), "float16")
    absent = Operand((), "float16")

    def kernel(shift: Operand, mask: Operand) -> Kernel:
        before = (row, row, row, *((row,) if gradient else ()), shift, absent, absent)
        return Kernel("FlashAttentionScore" + "Grad" * gradient, (*before, mask), (row,))

    full = Operand((1, 1, 2048, 2048), "float16")
    first = kernel_cost(kernel(absent, full), B1)
    # Today's operator takes floats as a bias alone, which says nothing of the library.
    today = kernel_cost(kernel(full, Operand((1, 1, 2048, 2048), "bool")), B1)
    assert first.duration_ns > 1.5 * kernel_cost(kernel(full, absent), B1).duration_ns
    assert first.duration_ns > first.pipes["vector"] + first.pipes["cube"]
    assert today.duration_ns < first.duration_ns / 2


def test_keys_of_prompts_are_not_shared_among_cores() -> None:
    """Eight blocks of 128 queries busy eight cores; those of a few queries may have their keys shared."""
    core = machine(chip("910B2"))
    prompt = AttentionProblem(batch=1, heads=1, kv_heads=1, q_len=1024, kv_len=8192, causal=False)
    few = AttentionProblem(batch=1, heads=1, kv_heads=1, q_len=16, kv_len=8192, causal=False, window=8000)
    shared = AttentionProblem(batch=1, heads=1, kv_heads=1, q_len=1024, kv_len=8192, causal=False, gradient=True)
    times = [attention_time(problem, core, 4096) for problem in (prompt, few, shared)]
    assert times[0].cores == 8
    assert times[0].block_q == 128
    assert times[1].cores > 8
    assert times[2].cores > 8
