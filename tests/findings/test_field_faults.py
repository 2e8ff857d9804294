"""Faults as they look in the field, and the jobs with layouts and real machines that they are planted in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

import memplan
from memplan.align import place_in_words
from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.findings import Finding, diagnose
from memplan.findings.rank_case import rank_case
from memplan.models import load_config
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan, Tier
from memplan.simulator import FAULTS, LAYOUTS, chosen_fault, planted_memory, planted_ns, simulate_job
from memplan.traces.profile import Kernels

WANTED = {
    "slow rank": "slow-rank", "slow link": "slow-link", "exposed transfer": "exposed-transfer",
    "late prefetch": "late-prefetch", "HBM slowdown": "hbm-slowdown", "leaked tensor": "leaked-tensor",
    "growth": "growth", "fragmented pool": "fragmented-pool", "AICPU op": "aicpu", "host gaps": "host-gaps",
    "synchronisation": "synchronisation", "clock drop": "clock-drop", "KV over-commit": "kv-over-commit",
    "expert imbalance": "expert-imbalance", "small packets": "small-packets", "recompile": "recompile",
    "bubble": "bubble", "format conversion": "format-conversion", "missing overlap": "missing-overlap",
    "data loader": "dataloader",
}  # fmt: skip
EXPERTS = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 1024, "intermediate_size": 3072,
    "moe_intermediate_size": 768, "num_experts": 16, "num_experts_per_tok": 4, "num_hidden_layers": 2,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 16000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "decoder_sparse_step": 1,
    "norm_topk_prob": True, "mlp_only_layers": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps(EXPERTS), encoding="utf-8")
    return memplan.plan(load_config(path), chip="910B3", phase="train", recipe=Recipe(sequence=1024))


def _slow(*kinds: str) -> list[ParameterSet]:
    return [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


def _output(folder: Path, rank: int) -> Path:
    return folder / f"rank_{rank}_ascend_pt" / "ASCEND_PROFILER_OUTPUT"


def _costly(folder: Path, plan: Plan) -> list[Finding]:
    found = diagnose(memplan.open_profile(folder, cache=folder.parent / "cache"), plan=plan).findings
    return [one for one in found if one.cost_ns or one.cost_bytes]


def _kernels(folder: Path, rank: int) -> Kernels:
    kernels = memplan.open_profile(folder, cache=folder.parent / "cache").rank(rank).kernels()
    assert kernels is not None
    return kernels


def test_every_kind_that_users_ask_for_can_be_planted() -> None:
    assert len(WANTED) == 20
    assert set(WANTED.values()) <= set(FAULTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_job_of_each_layout_is_read_as_what_it_is(tmp_path: Path, plan: Plan, layout: str) -> None:
    simulate_job(plan, tmp_path / "job", ranks=4, steps=2, seed=5, layout=layout, background=True)
    profile = memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache")
    assert list(profile.ranks) == [0, 1, 2, 3]
    stages = [profile.rank(rank).groups.stage_of(rank) for rank in profile.ranks]
    assert stages == ([0, 0, 1, 1] if layout == "pipeline" else [0, 0, 0, 0])
    sizes = profile.rank(0).groups.sizes
    assert (sizes["tp"], sizes["pp"], sizes["dp"]) == {
        "tensor": (2, 1, 2), "pipeline": (1, 2, 2)}.get(layout, (1, 1, 4))  # fmt: skip
    assert len(profile.rank(3).steps()) == 2
    peer = [one for one in profile.rank(0).communications() if one.peer_to_peer]
    assert bool(peer) == (layout == "pipeline")


def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path, plan: Plan) -> None:
    for ranks, layout in ((3, "pipeline"), (5, "tensor"), (4, "star")):
        with pytest.raises(InputError):
            simulate_job(plan, tmp_path / "job", ranks=ranks, layout=layout)


def test_ranks_meet_at_one_time_that_their_clocks_show_differently(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "alike", ranks=2, steps=1, seed=5)
    simulate_job(plan, tmp_path / "real", ranks=2, steps=1, seed=5, background=True)

    def ends(folder: str) -> list[float]:
        found = []
        for rank in (0, 1):
            told = json.loads((_output(tmp_path / folder, rank) / "communication.json").read_text())
            one: dict[str, Any] = told["step1"]["collective"]["hcom_allReduce__000_1_1@77"]["Communication Time Info"]
            found.append(one["Start Timestamp(us)"] + 1000 * one["Elapse Time(ms)"])
        return found

    first, second = ends("alike")
    assert abs(first - second) < 1
    first, second = ends("real")
    assert abs(first - second) > 10


def test_a_link_that_is_slow_with_large_messages_carries_small_ones_as_fast(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("slow-link-large:strong"), ranks=4, steps=1, seed=5)
    told = json.loads((_output(tmp_path / "job", 1) / "communication_matrix.json").read_text())
    ops = told["step1"]["collective"]
    fast, slow = (ops[f"allreduce-{which}@77"]["1-2"]["Bandwidth(GB/s)"] for which in ("middle", "bottom1"))
    assert "allreduce-total@77" in ops
    assert ops["allreduce-top1@77"]["1-2"]["Bandwidth(GB/s)"] > 2 * slow
    assert fast > 0


def test_only_one_rank_leaks(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("leaked-tensors-mixed"), ranks=3, steps=4, seed=5)
    kept = []
    for rank in range(3):
        blocks = memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache").rank(rank).allocations()
        assert blocks is not None
        kept.append(int((blocks.release_ns < 0).sum()))
    assert kept == [0, 0, 12]
    grown = [one for one in _costly(tmp_path / "job", plan) if one.kind == "memory.growth"]
    assert [one.rank for one in grown] == [2]
    truth = planted_memory(plan, chosen_fault("leaked-tensors-mixed"), ranks=3, steps=4, seed=5)
    assert grown[0].cost_bytes == pytest.approx(truth, rel=0.01)


def test_a_rank_slow_at_matrix_work_is_no_slower_at_the_rest(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("slow-rank-cube:strong"), ranks=3, steps=2, seed=5)
    times: dict[str, list[int]] = {"AI_CORE": [], "AI_VECTOR_CORE": []}
    for rank in (0, 2):
        kernels = _kernels(tmp_path / "job", rank)
        for core, found in times.items():
            rows = [row for row in range(len(kernels)) if kernels.core[row] == core]
            found.append(int(kernels.duration_ns[rows].sum()))
    assert times["AI_CORE"][1] > 1.1 * times["AI_CORE"][0]
    assert times["AI_VECTOR_CORE"][1] == pytest.approx(times["AI_VECTOR_CORE"][0], rel=0.05)


def test_what_is_compiled_once_is_compiled_in_one_step(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("recompile-once:strong"), ranks=2, steps=4, seed=5)
    steps = memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache").rank(0).steps()
    free = [step.free_ns for step in steps]
    assert free.index(max(free)) == 2
    assert max(free) > 4 * sorted(free)[2]


@pytest.mark.parametrize("kind", [kind for kind, fault in FAULTS.items() if fault.background and not fault.memory])
def test_a_fault_costs_time_in_a_job_of_its_layout(plan: Plan, kind: str) -> None:
    if kind == "hbm-slowdown-large":
        pytest.skip("the small plan has no long memory-bound ops")
    assert planted_ns(plan, chosen_fault(f"{kind}:strong"), ranks=4, steps=5, seed=5) > 0


@pytest.mark.parametrize(
    "kind",
    ["uneven-sequences", "launch-blocking", "casts", *_slow("starved-host", "late-swap", "read-back", "unfused-chains",
     "lost-packets", "slow-exchange")],
)  # fmt: skip
def test_faults_of_load_are_the_first_finding(tmp_path: Path, plan: Plan, kind: str) -> None:
    fault = chosen_fault(f"{kind}:strong")
    simulate_job(plan, tmp_path / "job", fault=fault, ranks=4, steps=4, seed=5)
    # Sequences of other lengths are not the plan's, and no stage runs all of it.
    plan_of_it = plan if fault.fault.planned and fault.fault.layout != "pipeline" else None
    found = diagnose(memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache"), plan=plan_of_it).findings
    costly = [one for one in found if one.cost_ns and one.kind != "pipeline.bubble"]
    assert costly[0].kind in fault.fault.findings
    assert costly[0].remedies


@pytest.mark.parametrize(
    "kind",
    ["slow-rank-warm", "expert-imbalance-rank", "bubble-uneven-stages", "synchronisation-uneven",
     *_slow("expert-imbalance-layers", "unfused-chains", "lost-packets")],
)  # fmt: skip
def test_a_cost_is_what_the_job_would_be_shorter_by(tmp_path: Path, plan: Plan, kind: str) -> None:
    """
    Went wrong once: of uneven stages all waiting was told, of a warm rank its clock and its slowness, of experts the
    distance to the median of ranks that had fewer tokens for it, and of reads of values not the collective laid bare.
    """
    fault = chosen_fault(f"{kind}:strong")
    simulate_job(plan, tmp_path / "job", fault=fault, ranks=4, steps=4, seed=5)
    plan_of_it = None if fault.fault.layout == "pipeline" else plan
    found = diagnose(memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache"), plan=plan_of_it).findings
    by_rank: dict[int | None, int] = {}
    for one in found:
        if one.kind in fault.fault.findings:
            for rank, length in ((one.rank, one.cost_ns or 0), *one.waits_ns):
                by_rank[rank] = by_rank.get(rank, 0) + length
    truth = planted_ns(plan, fault, ranks=4, steps=4, seed=5)
    assert max(by_rank.values()) == pytest.approx(truth, rel=0.25)


def test_of_a_copy_that_nothing_hides_the_kernel_that_waits_for_it_is_named(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("late-swap:strong"), ranks=1, steps=2, seed=5)
    (copies,) = [one for one in _costly(tmp_path / "job", plan) if one.kind == "copy.exposed"]
    kernels = _kernels(tmp_path / "job", 0)
    words = {op.name: place_in_words(op) for op in plan.ops}
    for place in copies.places:
        assert place.span_ns is not None
        (name,) = place.ops
        after = kernels.start_ns >= place.span_ns[1]
        assert name == words[kernels.name[int(kernels.start_ns.argsort()[int((~after).sum())])]]
        assert kernels.start_ns[after].min() - place.span_ns[1] < 10_000
    idle = [one for one in _costly(tmp_path / "job", plan) if one.kind.startswith("idle.")]
    assert sum(one.cost_ns or 0 for one in idle) < 0.1 * (copies.cost_ns or 0)


def test_a_process_that_stands_still_leaves_no_event(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("stands-still:strong"), ranks=2, steps=4, seed=5)
    trace = json.loads((_output(tmp_path / "job", 0) / "trace_view.json").read_text())
    assert "still" not in {event["name"] for event in trace}
    free = [step.free_ns for step in memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache").rank(0).steps()]
    assert free.index(max(free)) == 2


def test_a_job_with_variables_of_the_environment_tells_them(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("launch-blocking:strong"), ranks=2, steps=2, seed=5)
    found = diagnose(memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache"), plan=plan).findings
    (settings,) = [one for one in found if one.kind == "settings.environment"]
    assert any("ASCEND_LAUNCH_BLOCKING=1" in str(item.label) for item in settings.evidence)


def test_real_machines_without_a_fault_are_left_in_peace(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", ranks=4, steps=4, seed=5, background=True)
    assert _costly(tmp_path / "job", plan) == []


def test_layers_are_not_computed_again_needlessly_where_memory_is_full(tmp_path: Path, plan: Plan) -> None:
    tiers = tuple(replace(use, peak=64 * GIB) if use.tier is Tier.HBM else use for use in plan.tiers)
    with pytest.raises(InputError, match="0% of the device memory are left"):
        simulate_job(replace(plan, tiers=tiers), tmp_path / "job", fault=chosen_fault("needless-recompute"))


@pytest.mark.parametrize("kind", ["growth", "leaked-tensor", "outside-memory-grown"])
def test_memory_is_not_kept_beyond_what_the_device_has(tmp_path: Path, plan: Plan, kind: str) -> None:
    """Went wrong once: a job grew beyond its device, whose want of room then cost more than the growth."""
    tiers = tuple(replace(use, peak=54 * GIB) if use.tier is Tier.HBM else use for use in plan.tiers)
    full = replace(plan, tiers=tiers)
    with pytest.raises(InputError, match="of the device memory in 6 steps"):
        simulate_job(full, tmp_path / "job", fault=chosen_fault(f"{kind}:strong"), steps=6)
    simulate_job(plan, tmp_path / "job", fault=chosen_fault(f"{kind}:strong"), steps=6, ranks=1)


def test_a_rank_whose_experts_and_all_else_are_slow_is_slow(tmp_path: Path, plan: Plan) -> None:
    """Went wrong once: experts take most of a step, so most of what a slow rank takes longer is theirs."""
    ops = tuple(replace(op, duration_ns=op.duration_ns * 30) if op.type == "GroupedMatmul" else op for op in plan.ops)
    heavy = replace(plan, ops=ops)
    simulate_job(heavy, tmp_path / "job", fault=chosen_fault("slow-rank:medium"), ranks=3, steps=4, seed=2)
    assert _costly(tmp_path / "job", heavy)[0].kind == "rank.slow"


def test_a_capture_that_never_ended_lasts_to_nobody_elses_end(tmp_path: Path, plan: Plan) -> None:
    simulate_job(plan, tmp_path / "job", fault=chosen_fault("captured-again:strong"), ranks=1, steps=4, seed=5)

    def captured_ns() -> int:
        rank = memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache").rank(0)
        begins, ends = rank_case(rank).host["capture"]
        return int((ends - begins).sum())

    before, path = captured_ns(), _output(tmp_path / "job", 0) / "trace_view.json"
    trace = json.loads(path.read_text())
    begun = next(event for event in trace if "aclmdlRICaptureBegin" in event["name"])
    first = min(float(event["ts"]) for event in trace if "ts" in event)
    path.write_text(json.dumps([*trace, begun | {"ts": f"{first:.3f}"}]))
    # The call itself is still one of a capture.
    assert captured_ns() == pytest.approx(before + 1000 * float(begun["dur"]), abs=1)
