"""What is found in real profiles, beside figures that were taken from their files by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import memplan
from memplan.findings import Confidence, diagnose
from memplan.findings.diagnosis import Diagnosis


def _diagnosis(path: Path) -> Diagnosis:
    return diagnose(memplan.open_profile(path))


def test_exposed_communication_is_the_first_finding_with_waiting_and_transfer_apart(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/alexnet-ddp-2rank/text/level2")
    first = next(one for one in found.findings if one.rank == 0)
    told: dict[Any, Any] = {str(item.label): item.value for item in first.evidence}
    assert first.kind == "communication.waiting"
    assert first.cost_ns is not None
    assert abs(first.cost_ns - 95_962_016) < 1000  # step_trace_time.csv
    assert abs(found.job.ranks[0].length_ns - 129_862_750) < 1000
    assert told["longest"] == "hcom_allReduce__271_0_1"
    assert told["bytes moving"] == 4_041_881  # Total Op Info of communication.json
    assert told["waiting for others"] + told["bytes moving"] == first.cost_ns
    assert first.places[0].ops == ("hcom_allReduce__271_0_1",)
    assert first.remedies


def test_waiting_of_sends_and_receives_is_a_bubble(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    bubble = next(one for one in found.findings if one.rank == 0)
    told: dict[Any, Any] = {str(item.label): item.value for item in bubble.evidence}
    assert bubble.kind == "pipeline.bubble"
    uneven = next(one for one in found.findings if one.kind == "pipeline.uneven")
    assert bubble.cost_ns is not None
    unevenness = dict(((uneven.rank, uneven.cost_ns), *uneven.waits_ns))[0]
    assert bubble.cost_ns + unevenness == 313_877_800  # Total Op Info, p2p
    assert told["bytes moving"] == 802_380  # batchsendrecv-total of the matrix
    exposed = next(one for one in found.findings if one.rank == 0 and one.kind == "communication.exposed")
    assert exposed.cost_ns == 106_296_460


def test_ranks_of_which_only_sums_are_there_are_taken_apart_too(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    (step,) = found.job.ranks[3].steps
    assert step.computing_ns == 401_131_700
    assert step.exposed_ns + step.bubble_ns == 261_498_440
    assert step.idle_total_ns == 147_520_200
    idle = next(one for one in found.findings if one.rank == 3 and one.kind == "idle.unexplained")
    assert idle.confidence is Confidence.ASSUMED


def test_costs_of_a_rank_never_exceed_its_steps_and_parts_add_up(shared_data: Path) -> None:
    folders = ("alexnet-ddp-2rank/text/level2", "alexnet-ddp-2rank/db/level2", "qwen3-0.6b-train-4rank",
               "mindspore-alexnet-2023", "gpt3-2023-handcut")  # fmt: skip
    for folder in folders:
        found = _diagnosis(shared_data / "profiles" / folder)
        for rank, facts in found.job.ranks.items():
            for step in facts.steps:
                parts = (step.computing_ns, step.overlapped_ns, step.exposed_ns, step.bubble_ns, step.copying_ns)
                assert sum(parts) + step.idle_total_ns == step.length_ns, (folder, rank, step.step)
            assert 0 <= found.explained_ns(rank) <= facts.length_ns
            assert found.unexplained_ns(rank) >= 0


def test_settings_of_the_run_are_looked_at(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    (settings,) = [one for one in found.findings if one.kind == "settings.environment"]
    names = {str(item.label).partition("=")[0] for item in settings.evidence}
    assert "PYTORCH_NPU_ALLOC_CONF" not in names  # it is set as advised
    assert "ACLNN_CACHE_LIMIT" in names


def test_memory_outside_of_the_allocator_is_itemised(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    outside = next(one for one in found.findings if one.kind == "memory.outside")
    told: dict[Any, Any] = {str(item.label): item.value for item in outside.evidence}
    assert outside.cost_bytes == told["process"] - told["reserved by the allocator"]
    assert told["HCCL"] > 2**30
    assert told["not itemised"] <= 100 * 2**20


def test_no_rank_of_another_stage_is_slow(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    assert not [one for one in found.findings if one.kind.startswith(("rank.", "link."))]


def test_headroom_is_told_where_the_chip_is_known(shared_data: Path) -> None:
    profile = memplan.open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank")
    roomy = diagnose(profile, ranks=[0], chip="910B3").findings  # 11.65 GiB of 64
    assert "memory.headroom" not in {one.kind for one in roomy}


def test_the_stage_with_head_and_loss_is_told_as_the_longer_one(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    (uneven,) = [one for one in found.findings if one.kind == "pipeline.uneven"]
    told: dict[Any, Any] = {str(item.label): item.value for item in uneven.evidence}
    computing = {rank: facts.steps[0].computing_ns for rank, facts in found.job.ranks.items()}
    assert told["stage 1 computes"] == computing[3]
    assert abs(2 * told["stage 0 computes"] - computing[0] - computing[1]) <= 1
    assert uneven.places[0].ranks == (3,)
    assert uneven.cost_ns is not None
    assert uneven.cost_ns < told["stage 1 computes"] - told["stage 0 computes"]


def _evidence(found: Diagnosis, kind: str, rank: int) -> str:
    mine = [one for one in found.findings if one.kind == kind and one.rank == rank]
    assert mine, kind
    return " | ".join([str(mine[0].title), *(f"{item.label} {item.value}" for item in mine[0].evidence)])


def test_what_the_advisor_says_rightly_of_alexnet_is_said(shared_data: Path) -> None:
    """Its output on this rank: msprof-analyze 26.2.0, `advisor all`."""
    found = _diagnosis(shared_data / "profiles/alexnet-ddp-2rank/text/level2")
    (step,) = found.job.ranks[0].steps
    parts = (step.computing_ns + step.overlapped_ns, step.exposed_ns, step.idle_total_ns + step.copying_ns)
    assert [round(part / 1e6, 3) for part in parts] == [8.868, 95.962, 25.033]
    assert len(next(one for one in found.findings if one.kind == "settings.environment").evidence) == 3
    unaligned = _evidence(found, "communication.unaligned", 0)
    assert unaligned.startswith("2 ")
    assert "hcom_allReduce__271_0_1" in unaligned
    assert "hcom_allReduce__271_3_1" in unaligned
    limits = _evidence(found, "kernel.limits", 0)
    assert "ForeachAddList 64,3,11,11" in limits
    assert "TransData 32,3,224,224: memory bound" in limits
    assert "NpuFusedSGD" in _evidence(found, "host.affinity", 0)
    assert _evidence(found, "kernel.dynamic", 0).startswith("100%")


def test_what_the_advisor_says_rightly_of_qwen3_is_said_and_its_errors_are_not(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/qwen3-0.6b-train-4rank")
    assert len(next(one for one in found.findings if one.kind == "settings.environment").evidence) == 2
    assert "SDMA" in _evidence(found, "communication.small_packets", 0)
    limits = _evidence(found, "kernel.limits", 0)
    for words in ("FlashAttentionScoreGrad 4096,1,2048", "Add 151936,1024;151936,1024: memory bound",
                  "ApplyAdamWV2 77791232", "Mul 220233216;: memory bound"):  # fmt: skip
        assert words in limits
    # It calls this one a product with 25.66 % of room; its memory pipe has next to none.
    assert "MatMulV3 4096,1024;4096,3072: memory bound, busiest pipe 94%" in limits
    # It counts 75 sequences and 2,943 ms of a step of 810 ms.
    sequences = next(one for one in found.findings if one.kind == "kernel.sequences")
    assert sum(item.value for item in sequences.evidence if isinstance(item.value, int)) < 810_022_000
