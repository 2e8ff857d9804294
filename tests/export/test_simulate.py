"""A simulated profile has the real files' columns, adds up, and departs from its plan only as far as it is told."""

from __future__ import annotations

import csv
import dataclasses
import filecmp
import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memplan
from memplan.core.errors import CancelledError, InputError
from memplan.schema import Plan, memory_curve
from memplan.simulator import Behaviour, simulate
from memplan.simulator.caching_allocator import CachingAllocator
from tests.small_plans import MIB, layered_plan, plans

REAL_QWEN = "profiles/qwen3-0.6b-train-4rank/rank_0_ascend_pt"
REAL_ALEXNET = "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt"


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "ASCEND_PROFILER_OUTPUT" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(layered_plan(8, transfers=True), tmp_path_factory.mktemp("simulated") / "run", steps=3)


@pytest.fixture(scope="module")
def trace(profile: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads((profile / "ASCEND_PROFILER_OUTPUT" / "trace_view.json").read_bytes())
    return events


@pytest.mark.parametrize(
    "name",
    ["kernel_details", "memory_record", "operator_memory", "step_trace_time", "op_statistic", "api_statistic"],
)
def test_tables_have_the_columns_of_the_real_ones(shared_data: Path, profile: Path, name: str) -> None:
    real, simulated = rows(shared_data / REAL_QWEN, f"{name}.csv"), rows(profile, f"{name}.csv")
    assert list(simulated[0]) == list(real[0])


@pytest.mark.parametrize("name", ["kernel_details", "memory_record", "operator_memory", "step_trace_time"])
def test_fields_are_spelled_as_in_the_real_ones(shared_data: Path, profile: Path, name: str) -> None:
    """Every field has a form that the real column has too: digits, decimals, tabs, quotes, names, N/A."""

    def form(text: str) -> str:
        if re.fullmatch(r"\d+", text):
            return "number"
        if re.fullmatch(r"\d+\.\d+(e-\d+)?", text):
            return "number"  # binary fractions print as 40.0 or 7.25, integers as they are
        if re.fullmatch(r"\d+\.\d{3}\t", text):
            return "time"
        if re.fullmatch(r'"[\d,;]*"', text):
            return "shapes"
        return "text" if re.search(r"[A-Za-z]", text) and text != "N/A" else text

    real, simulated = rows(shared_data / REAL_QWEN, f"{name}.csv"), rows(profile, f"{name}.csv")
    for column in real[0]:
        known = {form(row[column]) for row in real}
        # Ops of a plan may have one operand where the real ones have none, and the other way round.
        found = {form(row[column]) for row in simulated} - {"", "N/A"}
        assert found <= known, column


def test_metadata_says_that_it_is_simulated(shared_data: Path, profile: Path) -> None:
    metadata = json.loads((profile / "profiler_metadata.json").read_bytes())
    assert metadata["memplan_simulated"] is True
    assert metadata["memplan_version"] == memplan.__version__
    info = json.loads((profile / "profiler_info_0.json").read_bytes())
    real = json.loads((shared_data / REAL_ALEXNET / "profiler_info_0.json").read_bytes())
    assert info.keys() == real.keys()
    for part in ("config", "start_info", "end_info"):
        assert info[part].keys() == real[part].keys()


def test_the_trace_has_the_shape_of_a_real_one(shared_data: Path, trace: list[dict[str, Any]]) -> None:
    real = json.loads((shared_data / REAL_ALEXNET / "ASCEND_PROFILER_OUTPUT" / "trace_view.json").read_bytes())

    def processes(events: list[dict[str, Any]]) -> dict[Any, str]:
        return {
            event["pid"]: event["args"]["name"]
            for event in events
            if event["ph"] == "M" and event["name"] == "process_name"
        }

    def forms(events: list[dict[str, Any]]) -> dict[tuple[str, str, str | None], frozenset[tuple[str, str]]]:
        names, found = processes(events), {}
        for event in events:
            form = frozenset((key, type(value).__name__) for key, value in event.items())
            found[event["ph"], names[event["pid"]], event.get("cat")] = form
        return found

    known, simulated = forms(real), forms(trace)
    assert simulated.keys() <= known.keys()
    for key, form in simulated.items():
        assert form == known[key], key


def test_flows_come_in_pairs_and_end_at_slices(trace: list[dict[str, Any]]) -> None:
    slices = {(event["pid"], event["tid"], event["ts"]) for event in trace if event["ph"] == "X"}
    ends = Counter((event["ph"], event["cat"], event["id"]) for event in trace if event["ph"] in "sf")
    assert ends
    for (phase, category, identity), count in ends.items():
        assert count == ends["f" if phase == "s" else "s", category, identity] == 1
    assert all((e["pid"], e["tid"], e["ts"]) in slices for e in trace if e["ph"] in "sf")


def test_steps_add_up_to_the_overlap_analysis(profile: Path, trace: list[dict[str, Any]]) -> None:
    steps = rows(profile, "step_trace_time.csv")
    assert [step["Step"] for step in steps] == ["1", "2", "3"]
    sums: Counter[str] = Counter()
    for event in trace:
        if event["ph"] == "X" and event["name"] in ("Computing", "Free") and "args" not in event:
            sums[event["name"]] += round(event["dur"] * 1000)
    for column in ("Computing", "Free"):
        assert sum(round(float(step[column]) * 1000) for step in steps) == sums[column]
    for step in steps:
        parts = sum(Decimal(step[key]) for key in ("Computing", "Communication(Not Overlapped)", "Free"))
        assert parts == Decimal(step["Stage"])


def test_kernels_do_not_overlap_on_a_stream_and_waits_are_their_gaps(profile: Path) -> None:
    kernels = rows(profile, "kernel_details.csv")
    last_end: Decimal | None = None
    for kernel in kernels:
        start = Decimal(kernel["Start Time(us)"].strip())
        if last_end is not None:
            assert start - last_end == Decimal(kernel["Wait Time(us)"])
        last_end = start + Decimal(kernel["Duration(us)"])


def test_pipe_times_are_ratios_of_the_core_time_and_cycles_agree_with_the_clock(profile: Path) -> None:
    for kernel in rows(profile, "kernel_details.csv"):
        for core, total in (("aic", "aicore_time(us)"), ("aiv", "aiv_time(us)")):
            busy = float(kernel[total])
            assert busy <= float(kernel["Duration(us)"])
            for column, text in kernel.items():
                if column.startswith(f"{core}_") and column.endswith("_time(us)") and column != total:
                    ratio = float(kernel[column.replace("_time(us)", "_ratio")])
                    assert 0 <= ratio <= 1
                    assert float(text) == pytest.approx(ratio * busy, abs=0.0011 * busy + 0.001)
            mixed = core == "aiv" and kernel["Accelerator Core"] == "MIX_AIC"
            blocks = int(kernel["Mix Block Dim" if mixed else "Block Dim"])
            if busy:
                assert int(kernel[f"{core}_total_cycles"]) == pytest.approx(busy * 1800 * blocks, rel=0.001)


def test_memory_record_follows_the_allocations(profile: Path) -> None:
    """The allocator's curve is what was there before plus each allocation and less each release."""
    change: Counter[str] = Counter()
    for row in rows(profile, "operator_memory.csv"):
        size = round(float(row["Size(KB)"]) * 1024)
        change[row["Allocation Time(us)"]] += size
        if row["Release Time(us)"]:
            change[row["Release Time(us)"]] -= size
    level = 8 * (4 * MIB + 512)
    reached = {}
    for time in sorted(change, key=lambda text: Decimal(text.strip())):
        level += change[time]
        reached[time] = level
    last = {}
    for row in rows(profile, "memory_record.csv"):
        if row["Component"] == "PTA":
            last[row["Timestamp(us)"]] = round(float(row["Total Allocated(MB)"]) * MIB)
            assert float(row["Total Allocated(MB)"]) <= float(row["Total Reserved(MB)"])
    assert last == reached


def test_an_exact_run_is_the_plan(tmp_path: Path) -> None:
    plan = layered_plan(5, transfers=True)
    folder = simulate(plan, tmp_path / "run", behaviour=Behaviour.exact())
    kernels = rows(folder, "kernel_details.csv")
    first = Decimal(kernels[0]["Start Time(us)"].strip())
    for op, kernel in zip(plan.ops, kernels, strict=True):
        assert (Decimal(kernel["Start Time(us)"].strip()) - first) * 1000 == op.start_ns
        assert Decimal(kernel["Duration(us)"]) * 1000 == op.duration_ns
        assert (kernel["Name"], kernel["Type"]) == (op.name, op.type)
    last = {  # of several events at one time the last counts
        int((Decimal(row["Timestamp(us)"].strip()) - first) * 1000): round(float(row["Total Allocated(MB)"]) * MIB)
        for row in rows(folder, "memory_record.csv")
        if row["Component"] == "PTA"
    }
    curve = memory_curve(plan)
    assert len(last) > 5
    for time_ns, allocated in last.items():
        if time_ns < plan.makespan_ns:
            assert allocated == curve.at(time_ns)


def test_a_slow_op_delays_what_follows(tmp_path: Path) -> None:
    plan = layered_plan(5)
    folder = simulate(plan, tmp_path / "run", behaviour=Behaviour.exact(slow_ops=((0, 20.0),)))
    kernels = rows(folder, "kernel_details.csv")
    assert Decimal(kernels[0]["Duration(us)"]) == 20 * Decimal(kernels[1]["Duration(us)"])
    starts = [Decimal(kernel["Start Time(us)"].strip()) for kernel in kernels]
    assert starts[-1] - starts[0] == (19 * 50_000 + plan.ops[-1].start_ns) / Decimal(1000)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    plan = layered_plan(6, transfers=True)
    first, again, other = (
        simulate(plan, tmp_path / name, steps=2, seed=seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    same, different, broken = filecmp.cmpfiles(first, again, [str(file) for file in files], shallow=False)
    assert (len(same), different, broken) == (len(files), [], [])
    table = "ASCEND_PROFILER_OUTPUT/kernel_details.csv"
    assert not filecmp.cmp(first / table, other / table, shallow=False)


def test_memplan_reads_what_it_wrote(profile: Path) -> None:
    opened = memplan.open_profile(profile)
    assert opened.simulated
    assert list(opened.notes) == []
    rank = opened.rank(0)
    kernels = rank.kernels()
    assert kernels is not None
    assert len(kernels) == 3 * 16
    assert [step.step for step in rank.steps()] == [1, 2, 3]
    assert set(rank.memory_components()) == {"APP", "PTA", "PTA+GE"}


def test_nothing_is_replaced_unless_asked_and_never_what_is_no_simulation(tmp_path: Path) -> None:
    plan = layered_plan(2)
    folder = simulate(plan, tmp_path / "a_ascend_pt")
    with pytest.raises(InputError, match="not empty"):
        simulate(plan, folder)
    simulate(plan, folder, replace=True, seed=1)
    real = tmp_path / "real_ascend_pt"
    real.mkdir()
    (real / "profiler_info_0.json").write_text("{}")
    with pytest.raises(InputError, match="not empty"):
        simulate(plan, real, replace=True)
    assert [path.name for path in real.iterdir()] == ["profiler_info_0.json"]


def test_a_cancelled_simulation_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if what == "trace events":
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        simulate(layered_plan(2), tmp_path / "run", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings_",
    [{"jitter": 1.0}, {"cube_efficiency": 0.0}, {"slow_factor": 1.0}, {"launch_gap_ns": -1}, {"block_bytes": 0}],
    ids=str,
)
def test_impossible_behaviour_is_refused(settings_: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings_))):
        Behaviour(**settings_)


@given(st.lists(st.tuples(st.integers(1, 40 * MIB), st.booleans()), max_size=60), st.sampled_from([None, 512]))
def test_the_allocator_never_loses_a_byte(requests: list[tuple[int, bool]], block: int | None) -> None:
    allocator = CachingAllocator(Behaviour(block_bytes=block))
    held = []
    for size, release in requests:
        blocks = allocator.allocate(size)
        assert blocks.size >= size
        held.append(blocks)
        assert allocator.allocated == sum(b.size for b in held) <= allocator.reserved
        if release:
            allocator.free(held.pop(len(held) // 2))
    for blocks in held:
        allocator.free(blocks)
    assert allocator.allocated == 0
    # Everything has come back, and joined: no two free blocks are neighbours.
    free = [block for pool in allocator._free.values() for _, _, block in pool]
    assert sum(block.size for block in free) == allocator.reserved
    assert all(block.before is None and block.after is None for block in free)


def test_segments_are_those_of_the_real_allocator() -> None:
    """2 MiB for up to 1 MiB, 20 MiB below 10 MiB, else multiples of 2 MiB (c10's CUDA and NPU caching allocators)."""
    for size, reserved in ((512, 2 * MIB), (2 * MIB, 20 * MIB), (10 * MIB, 10 * MIB), (31 * MIB, 32 * MIB)):
        allocator = CachingAllocator(Behaviour())
        allocator.allocate(size)
        assert allocator.reserved == reserved


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(plan=plans(), steps=st.integers(1, 2), exact=st.booleans())
def test_any_plan_is_simulated_and_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, steps: int, exact: bool
) -> None:
    folder = tmp_path_factory.mktemp("any") / "run_ascend_pt"
    plan = dataclasses.replace(plan, chip="Ascend910B3")
    behaviour = Behaviour.exact() if exact else Behaviour()
    if not plan.ops:
        with pytest.raises(InputError, match="no ops"):
            simulate(plan, folder, behaviour=behaviour)
        return
    simulate(plan, folder, behaviour=behaviour, steps=steps)
    profile = memplan.open_profile(folder)
    kernels = profile.rank(0).kernels()
    missing = sum(bool(op.launches) for op in plan.ops) * steps - (len(kernels) if kernels is not None else 0)
    # A kernel of hours among some of microseconds is taken for damage, and told.
    told = [note for note in profile.notes if "far from all others set aside" in str(note)]
    assert missing == 0 or (missing > 0 and told)
    assert max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000


def test_a_plan_for_an_unknown_chip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no chip is called"):
        simulate(dataclasses.replace(layered_plan(2), chip="Descend1"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
