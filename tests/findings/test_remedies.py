"""What can be done: every remedy says what to change, why, and where that was read."""

from __future__ import annotations

import re
from pathlib import Path

import memplan
from memplan.core.resources import table
from memplan.findings import diagnose
from memplan.findings.finding import remedies_of
from memplan.findings.software import software_of
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps.options import Phase, ServedStep
from memplan.simulator import chosen_fault, simulate_job
from memplan.simulator.job_program import Doing, Item, RankProgram, spread_out
from tests.findings.planted_runs import diagnosed, kernels, named

_FACTS = {"settings.environment", "path.composition"}
"""Findings that say themselves what to set, or that are no fault."""


_OF_SERVING = {"kv.preemption", "kv.full", "kv.pages", "kv.padding", "sleep.kept", "sleep.growth"}
_OF_TRAINING = {"idle.checkpoint", "recompute.layers"}
_OF_TORCH = {"host.affinity", "host.sync_batch_norm"} | _OF_SERVING


def test_each_remedy_has_a_knob_a_reason_and_a_source() -> None:
    for kind, rows in table("memplan.findings", "remedies.json").items():
        assert rows, kind
        for row in rows:
            assert set(row) - {"use", "sign"} == {"framework", "knob", "text", "version", "source"}, kind
            assert row.get("use", "training") in {"training", "serving"}, kind
            assert all(row[key] for key in ("framework", "knob", "text", "source")), kind
            assert row["version"] or row["framework"] == "any", (kind, row["knob"])  # what ages says of which version


def test_remedies_for_a_sign_that_a_rule_sees_go_first() -> None:
    rules = "".join(
        file.read_text(encoding="utf-8") for file in (Path(__file__).parents[2] / "memplan/findings/rules").glob("*.py")
    )
    for kind, rows in table("memplan.findings", "remedies.json").items():
        for sign in {row["sign"] for row in rows if "sign" in row}:
            assert f'"{sign}"' in rules, (kind, sign)
            plain, signed = remedies_of(kind), remedies_of(kind, frozenset(), frozenset({sign}))
            count = sum(row.get("sign") == sign for row in rows)
            assert {one.knob for one in signed[:count]} == {row["knob"] for row in rows if row.get("sign") == sign}
            assert sorted(plain, key=repr) == sorted(signed, key=repr)


def test_each_finding_goes_first_to_what_its_profile_shows(tmp_path: Path) -> None:
    """One late host is bound to its cores; a host that waits for each kernel is told to stop that."""

    def waited_for(program: RankProgram) -> RankProgram:
        call = Item(Doing.SYNCHRONISE, "AscendCL@aclrtSynchronizeStreamWithTimeout", "", 30_000)
        return tuple(part for item in program for part in ((item, call) if item.doing is Doing.KERNEL else (item,)))

    def late(program: RankProgram) -> RankProgram:
        slow = Item(Doing.HOST, "launch", "quiet", 120_000)
        return tuple(part for item in program for part in ((slow, item) if item.doing is Doing.KERNEL else (item,)))

    (each,) = named(diagnosed(tmp_path / "each", waited_for), "idle.synchronise")
    assert each.remedies[0].knob == "ASCEND_LAUNCH_BLOCKING=0"
    alone = named(diagnosed(tmp_path / "alone", late, ranks=3, only=1), "idle.host")
    assert [(one.rank, one.remedies[0].knob[:12]) for one in alone[:1]] == [(1, "CPU_AFFINITY")]
    together = named(diagnosed(tmp_path / "all", late, ranks=3), "idle.host")
    assert not [one.rank for one in together if one.remedies[0].knob.startswith("CPU_AFFINITY")]


def test_whatever_is_found_has_a_remedy() -> None:
    rules = Path(__file__).parents[2] / "memplan/findings/rules"
    kinds = {
        kind
        for file in rules.glob("*.py")
        for kind in re.findall(r'kind="([a-z]+\.[a-z_]+)"', file.read_text(encoding="utf-8"))
    }
    assert len(kinds) > 25
    assert {kind for kind in kinds if not remedies_of(kind)} <= _FACTS


def test_remedies_are_of_what_ran_and_none_is_left_without() -> None:
    kinds = table("memplan.findings", "remedies.json")
    for kind in kinds:
        of_mindspore = {one.framework for one in remedies_of(kind, frozenset({"MindSpore"}))}
        of_torch = {one.framework for one in remedies_of(kind, frozenset({"torch"}))}
        assert of_mindspore.isdisjoint({"torch_npu", "torch", "Megatron / MindSpeed", "vllm-ascend"}), kind
        assert "MindSpore" not in of_torch
        for use, other in (("training", _OF_SERVING), ("serving", _OF_TRAINING)):
            assert remedies_of(kind, frozenset({"torch", use})) or kind in other, (kind, use)
        assert of_mindspore or kind in _OF_TORCH, kind


def test_no_remedy_of_a_served_step_speaks_of_a_way_back() -> None:
    """Went wrong once: fused gradients, recomputed cells and schedules of micro-batches for engines of MindSpore."""
    trained = re.compile(r"gradient|backward|recompute|1f1b|learning rate|\bloss\b")
    for kind in table("memplan.findings", "remedies.json"):
        for framework in ("torch", "MindSpore"):
            served = remedies_of(kind, frozenset({framework, "serving"}))
            assert [one.knob for one in served if trained.search(f"{one.knob} {one.text}")] == [], kind


def test_known_frameworks_are_those_of_the_table() -> None:
    needs = table("memplan.findings", "frameworks.json")["needs"]
    told = {row["framework"] for rows in table("memplan.findings", "remedies.json").values() for row in rows}
    assert needs.keys() <= told


def test_of_a_served_step_remedies_are_those_of_engines(tmp_path: Path, shared_data: Path) -> None:
    """Went wrong once: simulated steps of an engine named Megatron's arguments, and were told to use more of them."""
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    step = ServedStep(Phase.DECODE, batch=32, context=2048)
    plan = memplan.plan(model, chip="910B3", phase="decode", recipe=step, layout=Layout(tensor=2))
    for kind, knob in (("host-gaps", "cudagraph_mode"), ("exposed-transfer", "enable_flashcomm1")):
        job = simulate_job(plan, tmp_path / kind, fault=chosen_fault(f"{kind}:strong"), ranks=2, steps=3, seed=11)
        first = diagnose(memplan.open_profile(job), plan=plan).findings[0]
        assert "serving" in first.software
        assert any(knob in one.knob for one in first.remedies), first.kind
        assert not any("Megatron" in one.framework or "DataParallel" in one.knob for one in first.remedies)


def test_kernels_of_an_engine_tell_more_than_arguments_of_megatron(tmp_path: Path) -> None:
    cached = kernels(["ReshapeAndCache"], 50_000)[0]
    found = diagnosed(tmp_path / "job", lambda program: spread_out(program, cached, 4))
    case = found.job.ranks[0].case
    assert case.profile.groups.sizes
    assert software_of(case) == {"torch", "serving"}
