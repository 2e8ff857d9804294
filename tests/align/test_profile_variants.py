"""A labelled profile in other shapes: cut, repeated, by another tool. Each is planned like itself and matched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import memplan
from benchmarks.profile_labels import Verdict, labelled_rows
from benchmarks.profile_variants import ProfileVariant, profile_variants
from memplan.align import Alignment, align
from memplan.requests.plan_request import PlanRequest

CUT, SEVERAL = "begins and ends inside", "end of a step, two steps, a beginning"


def matched(shared: Path, variant: ProfileVariant) -> tuple[list[Verdict], Alignment]:
    """The verdicts of what computes, and the alignment."""
    plan = PlanRequest(shared / "configs" / "Qwen--Qwen3-0.6B.json", like=str(variant.folder)).plan()
    profile = memplan.open_profile(variant.folder)
    kernels = profile.rank(next(iter(profile.ranks))).kernels()
    assert kernels is not None
    found = align(plan, kernels)
    return [item for item in labelled_rows(plan, found, variant.labels) if not item.collective], found


def share(verdicts: Sequence[Verdict], what: str = "right") -> float:
    """The share of time of which `what` of a verdict holds."""
    return sum(item.duration_us for item in verdicts if getattr(item, what)) / sum(
        item.duration_us for item in verdicts
    )


def test_parts_of_steps_and_several_are_matched(shared_data: Path, tmp_path: Path) -> None:
    profile = shared_data / "profiles" / "qwen3-0.6b-train-4rank" / "rank_0_ascend_pt"
    labels = shared_data / "labels" / "qwen3_rank0.csv"
    variants = {variant.name: variant for variant in profile_variants(profile, labels, tmp_path)}
    for variant in (variants[CUT], variants[SEVERAL]):
        verdicts, found = matched(shared_data, variant)
        assert share(verdicts) >= 0.97, variant.name
        if variant.name == SEVERAL:
            # What is reported between two steps belongs to neither.
            scopes = found.scopes
            between = [row for row, label in enumerate(variant.labels) if label["part"] in ("status_reduce", "barrier")]
            assert {scopes.phases[scopes.phase[row]] for row in between} == {"other"}


def test_order_is_kept_where_no_kernel_tells_sizes(shared_data: Path, tmp_path: Path) -> None:
    """
    Went wrong once: without sizes updates were matched far out of their order, as only sizes could tell.

    Which update is which weight's is not told where times alone speak for it.
    """
    profile = shared_data / "profiles" / "qwen3-0.6b-train-4rank" / "rank_0_ascend_pt"
    labels = shared_data / "labels" / "qwen3_rank0.csv"
    variants = {variant.name: variant for variant in profile_variants(profile, labels, tmp_path)}
    verdicts, _ = matched(shared_data, variants["no shapes"])
    assert share(verdicts, "scope") >= 0.99
    assert share(verdicts) >= 0.88
