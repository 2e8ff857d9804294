"""Kernels whose shapes don't suit the chip are named, by rows of a kernel table that says so."""

from __future__ import annotations

import csv
from pathlib import Path

from memplan.findings import Finding, diagnose
from memplan.simulator.profile_tables import KERNEL_DETAILS
from memplan.traces import open_profile


def findings_of(folder: Path, rows: list[dict[str, object]]) -> dict[str, Finding]:
    output = folder / "rank_0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    with (output / "kernel_details.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, KERNEL_DETAILS, restval="N/A")
        writer.writeheader()
        for place, row in enumerate(rows):
            common = {"Step Id": 1, "Name": f"op{place}", "Start Time(us)": f"{1000 + 100 * place}.000\t"}
            writer.writerow(common | {"Duration(us)": 90, "Wait Time(us)": 0} | row)
    found = diagnose(open_profile(folder, cache=folder / "cache")).findings
    return {one.kind: one for one in found}


def product(left: str, right: str, blocks: int = 24) -> dict[str, object]:
    return {"Type": "MatMulV2", "Accelerator Core": "AI_CORE", "Block Dim": blocks, "Input Shapes": f'"{left};{right}"'}


def test_products_with_odd_inner_axes_are_named(tmp_path: Path) -> None:
    whole = [product("4096,1024", "1024,3072")] * 4
    odd = [product("4096,1024", "1024,1000"), product("4096,33", "33,512")]
    found = findings_of(tmp_path, whole + odd)
    assert sum(int(item.value) for item in found["kernel.unaligned"].evidence) == 2 * 90_000
    assert found["kernel.unaligned"].cost_ns is None
    assert "kernel.unaligned" not in findings_of(tmp_path / "whole", whole)


def test_attention_with_an_odd_head_size_is_named(tmp_path: Path) -> None:
    def attention(size: int) -> dict[str, object]:
        shape = f"2,16,2048,{size}"
        return {"Type": "FlashAttentionScore", "Accelerator Core": "MIX_AIC", "Input Shapes": f'"{shape};{shape}"'}

    assert "kernel.unaligned" in findings_of(tmp_path, [attention(96)])
    assert "kernel.unaligned" not in findings_of(tmp_path / "whole", [attention(128)])


def test_cores_without_a_block_are_counted(tmp_path: Path) -> None:
    """Of 24 cores 18 have nothing to do with 6 blocks, and 12 in the second turn of 36; one of 240 fills all."""
    full = [product("4096,1024", "1024,3072")] * 20
    found = findings_of(tmp_path, [*full, product("64,256", "256,256", 6), product("64,256", "256,512", 36)])
    assert sum(int(item.value) for item in found["kernel.blocks"].evidence) == round(90_000 * (18 / 24 + 12 / 48))
    assert "kernel.blocks" not in findings_of(tmp_path / "whole", [*full, product("64,256", "256,256", 240)])


def test_kernels_that_keep_no_pipe_busy_are_told_with_what_they_leave(tmp_path: Path) -> None:
    """`operator_no_bound` of msprof-analyze: every pipe works for less than four fifths of the time."""

    def vector(share: float) -> list[dict[str, object]]:
        ratios: dict[str, object] = {"aiv_vec_ratio": share, "aiv_mte2_ratio": share / 2, "aiv_mte3_ratio": 0.05}
        kernel = {"Type": "RmsNormGrad", "Accelerator Core": "AI_VECTOR_CORE", "Input Shapes": '"4096,1024"'}
        return [ratios | kernel] * 10

    found = findings_of(tmp_path, vector(0.5))["kernel.unbound"]
    assert found.cost_ns == round(10 * 90_000 * (1 - 0.5 / 0.8))
    assert "kernel.unbound" not in findings_of(tmp_path / "busy", vector(0.85))
