"""Kernels of the chunked delta rule in Triton against measured ones that no cycles came from."""

from __future__ import annotations

import pytest

from memplan.cost import kernel_cost, machine
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.hardware import chip

_ALONE = {"ChunkScaledDotKkt": 64, "RecomputeWU": 128, "ChunkFwdO": 256}
_WALK = "ChunkGatedDeltaRuleFwdH"


def _ns(name: str, sequences: int, tokens: int, heads: int, die: str = "910B2") -> int:
    chunks = sequences * heads * tokens // 64
    sizes = {
        "chunks": chunks, "rows": 64, "columns": 128, "terms": _ALONE.get(name, 256),
        "chains": sequences * heads if name == _WALK else chunks,
    }  # fmt: skip
    wide = Operand((sequences * tokens, heads * 128), "bfloat16")
    kernel = Kernel(name, inputs=(wide,), outputs=(wide,), attributes=tuple(sorted(sizes.items())))
    return kernel_cost(kernel, machine(chip(die))).duration_ns


@pytest.mark.parametrize(
    ("name", "heads", "measured_ms"),
    [
        (_WALK, 16, 15.60), (_WALK, 48, 46.13), ("RecomputeWU", 16, 11.86), ("RecomputeWU", 48, 34.59),
        ("ChunkFwdO", 48, 23.70), ("ChunkScaledDotKkt", 48, 5.64),
    ],
)  # fmt: skip
def test_sequences_of_half_the_length_take_what_was_measured(name: str, heads: int, measured_ms: float) -> None:
    """huawei-csl/megagdn-pto, outputs/data/kernel_bench_L8192.json: sixteen sequences of 8,192 tokens on 910B2."""
    assert _ns(name, 16, 8192, heads) / 1e6 == pytest.approx(measured_ms, rel=0.05)


def test_few_heads_of_one_sequence_leave_cores_idle_where_chunks_wait_for_each_other() -> None:
    assert _ns(_WALK, 1, 16384, 4) == _ns(_WALK, 1, 16384, 24) < _ns(_WALK, 1, 16384, 25)
    assert _ns("ChunkFwdO", 1, 16384, 4) < 0.2 * _ns("ChunkFwdO", 1, 16384, 24)
