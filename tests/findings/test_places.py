"""Where a finding says that a kernel runs."""

from __future__ import annotations

from pathlib import Path

import memplan
from memplan.findings.job_case import job_case, rank_facts_of
from memplan.findings.rank_case import rank_case

KERNELS = """Step Id,Name,Type,Accelerator Core,Start Time(us),Duration(us)
1,MatMul1,MatMulV2,AI_CORE,1000.0,10.0
2,MatMul2,MatMulV2,AI_CORE,1020.0,10.0
1,Add1,Add,AI_VECTOR_CORE,1025.0,10.0
2,Add2,Add,AI_VECTOR_CORE,1040.0,10.0
"""


def test_a_kernel_is_of_the_step_that_the_profile_gives_it(tmp_path: Path) -> None:
    """Went wrong once: where steps overlap, what ran late was said to be of the step after its own."""
    folder = tmp_path / "rank_0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    folder.mkdir(parents=True)
    (folder / "kernel_details.csv").write_text(KERNELS, encoding="utf-8")
    profile = memplan.open_profile(tmp_path)
    (number,) = profile.ranks
    job = job_case({number: rank_facts_of(rank_case(profile.rank(number)))})
    assert [job.kernel_place(number, kernel).step for kernel in range(4)] == [1, 2, 1, 2]
    place = job.kernel_place(number, 0, 2)
    assert place.span_ns == (1_000_000, 1_035_000)
    assert place.ops == ("MatMul1",)
