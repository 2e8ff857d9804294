"""Iterations that msprof recorded are steps: in its table, and where that is missing on the timeline."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.reports.profile_report import rank_facts
from memplan.traces import open_profile
from memplan.traces.steps import StepSpan, step_spans

BEGIN_US = 1_760_000_000_000_000
FOLDER = "PROF_000001_20250101000000000_ABCDEFGHIJ/mindstudio_profiler_output"


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    timed=st.booleans(),
    twice=st.booleans(),
    more=st.lists(st.sampled_from(["Reduce Start(us)", "Data Aug Bound(us)", "Model ID"]), unique=True),
)
def test_rows_of_a_step_trace_are_steps(
    lengths: list[int], order: Random, timed: bool, twice: bool, more: list[str]
) -> None:
    """Where the table has no time of an iteration, or N/A, it counts from the start of the forward pass."""
    starts = [BEGIN_US + sum(lengths[:place]) + 10 * place for place in range(len(lengths))]
    rows = [
        [f"{place + 1}", f"{start}.250", f"{start + length}.250", f"{length}.000" if timed else "N/A",
         *("0" for _ in more)]
        for place, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]  # fmt: skip
    order.shuffle(rows)
    lines = [["Iteration ID", "FP Start(us)", "Iteration End(us)", "Iteration Time(us)", *more], *rows]
    with TemporaryDirectory() as folder:
        output = Path(folder) / FOLDER
        output.mkdir(parents=True)
        for name in ("step_trace_20250101000000.csv", "step_trace_20250101000100.csv")[: 1 + twice]:
            (output / name).write_text("\n".join(map(",".join, lines)) + "\n")
        rank = open_profile(folder).rank(0)
        expected = [
            StepSpan(place + 1, start * 1000 + 250, (start + length) * 1000 + 250)
            for place, (start, length) in enumerate(zip(starts, lengths, strict=True))
        ]
        assert [(step.step, step.start_ns, step.length_ns) for step in rank.steps()] == [
            (one.number, one.start_ns, one.end_ns - one.start_ns) for one in expected
        ]
        assert all(step.computing_ns is None for step in rank.steps()), "what was not measured is not known"
        assert step_spans(rank) == expected
        assert [step["length_ns"] for step in rank_facts(rank, 5)["steps"]] == [length * 1000 for length in lengths]


def test_a_step_trace_without_its_columns_is_named(tmp_path: Path) -> None:
    output = tmp_path / FOLDER
    output.mkdir(parents=True)
    (output / "step_trace_20250101000000.csv").write_text("Iteration,End\n1,2\n")
    profile = open_profile(tmp_path)
    assert profile.rank(0).steps() == ()
    assert "skipped: no columns Iteration ID" in profile.notes[0].text


def test_a_row_without_an_end_is_left_out_and_noted(tmp_path: Path) -> None:
    output = tmp_path / FOLDER
    output.mkdir(parents=True)
    header = "Iteration ID,FP Start(us),Iteration End(us),Iteration Time(us)"
    (output / "step_trace_1.csv").write_text(f"{header}\n1,100,200,90\n2,300,N/A,90\n3,500,400,N/A\n")
    profile = open_profile(tmp_path)
    assert [(step.step, step.start_ns, step.length_ns) for step in profile.rank(0).steps()] == [(1, 110_000, 90_000)]
    assert [note.text for note in profile.notes] == [
        f"row {row} skipped: no usable end and time of an iteration" for row in (3, 4)
    ]


def test_iterations_on_the_timeline_are_steps(tmp_path: Path) -> None:
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "Step Trace"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 5, "args": {"name": "Model ID:2"}},
    ]
    events += [
        {"ph": "X", "name": f"Iteration {number}", "pid": 1, "tid": 5, "ts": BEGIN_US + 100 * number, "dur": 90}
        for number in (2, 1, 10)
    ]
    (tmp_path / "step_trace_0_2_1.json").write_text(json.dumps(events))
    rank = open_profile(tmp_path).rank(0)
    assert [(step.step, step.length_ns) for step in rank.steps()] == [(1, 90_000), (2, 90_000), (10, 90_000)]


def test_the_iterations_of_a_real_profile(shared_data: Path) -> None:
    steps = open_profile(shared_data / "profiles/mindspore-alexnet-2023").rank(0).steps()
    assert [step.step for step in steps] == list(range(1, 11))
    assert steps[0].length_ns == 47_587_810
