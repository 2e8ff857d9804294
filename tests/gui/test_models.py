"""What the window shows, without a window."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.gui.model.compare.deviations import DEVIATION_SHAPE, deviation_rows, verdict
from memplan.gui.model.details.details import item_sections
from memplan.gui.model.details.range_statistics import range_sections
from memplan.gui.model.document import make_document
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session, request_for
from memplan.gui.model.session.session import OpRef, Session, TensorRef
from memplan.gui.model.slices.slice_search import search_slices
from memplan.gui.model.tables.live_tensors import live_rows
from memplan.gui.model.timeline.counter_text import counter_lines, highest_text
from memplan.gui.model.timeline.lanes import OTHER_KIND, build_lanes
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack
from memplan.gui.model.viewport import Viewport
from memplan.schema import Tier, load_plan, memory_curve
from memplan.traces.profile import CounterSeries, Slices
from tests.gui.conftest import PLAN, PROFILE
from tests.traces.excerpts import snapshot

pytestmark = pytest.mark.gui


def test_plan_and_profile_share_the_clock_of_the_comparison(session: Session) -> None:
    document = session.document
    assert document.comparison is not None
    assert document.axis is document.comparison.time_map
    assert document.axis.anchored
    assert "planned ops found" in str(document.basis)
    assert document.simulated


def test_the_planned_curve_is_the_plan_s_own_on_the_profile_s_clock(session: Session) -> None:
    plan = load_plan(PLAN)
    curve = memory_curve(plan)
    shown = session.curves.planned
    assert shown is not None
    assert np.array_equal(shown.values[:-1], curve.values[:-1])
    assert shown.at(int(shown.time_ns[-1])) is None, "went wrong once: what stays was drawn as given back at the end"
    assert np.array_equal(shown.time_ns, session.document.axis.to_profile(curve.time_ns))
    layers = session.curves.layers
    told = [layer.values[:-1] for layer in layers.values()]
    assert np.sum(told, axis=0).tolist() == curve.values[:-1].tolist()
    # What stays for the whole plan lies at the bottom.
    assert list(layers)[:2] == ["optimizer_state", "weight"]


def test_the_compared_curve_comes_first_and_stands_at_its_ops(session: Session) -> None:
    first = session.curves.measured[0]
    assert first.name.startswith("measured (")
    memory = session.document.comparison.memory
    assert memory is not None
    assert np.array_equal(first.values[:-1], memory.measured[:-1])
    assert (np.diff(first.time_ns) >= 0).all()


def test_every_rectangle_of_the_map_is_a_placement(session: Session) -> None:
    plan, mapped = session.document.plan, session.map
    assert plan is not None
    assert mapped is not None
    placed = [p for p in plan.placements if p.tier is Tier.HBM and p.offset is not None]
    assert len(mapped) == len(placed)
    middle = len(mapped) // 2
    inside = int((mapped.start_ns[middle] + mapped.end_ns[middle]) // 2)
    found = mapped.at(inside, int(mapped.low[middle]))
    assert found is not None
    assert mapped.low[found] <= mapped.low[middle] < mapped.high[found]
    assert middle in mapped.alive(inside)


def test_the_peak_is_explained_to_the_byte(session: Session) -> None:
    peak, plan = session.peak, session.document.plan
    assert peak is not None
    assert plan is not None
    assert sum(part.nbytes for part in peak.parts) == peak.alive == int(memory_curve(plan).values.max())
    use = plan.tier(Tier.HBM)
    assert use is not None
    assert peak.step == use.peak_step


def test_differences_are_listed_as_the_comparison_ranks_them(session: Session) -> None:
    rows = deviation_rows(session.document)
    costs = [row.sort_keys[-1] for row in rows]
    assert rows
    assert costs == sorted(costs, reverse=True)
    assert all(len(row.cells) == len(DEVIATION_SHAPE.header) for row in rows)
    assert str(verdict(session.document)).startswith("deviates: ")


def test_what_is_alive_adds_up_to_the_curve(session: Session) -> None:
    peak = session.peak
    assert peak is not None
    rows, total = live_rows(session, float(peak.time_ns - session.origin_ns))
    assert total == peak.alive
    sizes = [float(row.sort_keys[-1]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == total


def test_the_verdict_says_how_many_differences_there_are_where_not_all_are_listed(session: Session) -> None:
    """Went wrong once: the list ended at 500 differences and called itself every difference."""
    found = session.document.comparison
    assert found is not None
    assert len(found.deviations) == found.deviations_total > 3
    assert "listed" not in str(verdict(session.document))
    few = replace(session.document, comparison=replace(found, deviations=found.deviations[:3]))
    assert len(deviation_rows(few)) == 3
    assert str(verdict(few)).endswith(f"; the 3 costliest of {found.deviations_total:,} differences are listed")


def _kinds(session: Session, track: TimelineTrack) -> tuple[str, ...]:
    lanes = session.tracks.lanes(track)
    return lanes.kinds if lanes is not None else ()


def test_a_selection_counts_what_lies_inside_it(session: Session) -> None:
    for track in session.tracks.all:
        session.tracks.load(track)
    plan = session.document.plan
    assert plan is not None
    assert range_sections(session) == []
    session.viewport.selected_range = session.viewport.bounds
    titles = {str(section.title): section for section in range_sections(session)}
    assert all(str(fact.label) for section in titles.values() for fact in section.facts)
    of_one_kind = {str(track.title) for track in session.tracks.all if _kinds(session, track) == (track.label,)}
    assert of_one_kind
    assert all(len(titles[title].facts) == 2 for title in of_one_kind & set(titles))
    planned = next(track for track in session.tracks.all if track.kind == "plan")
    facts = {str(fact.label): fact.value for fact in titles[str(planned.title)].facts}
    assert facts["slices"] == f"{sum(op.duration_ns > 0 for op in plan.ops):,}"
    lanes = session.tracks.lanes(planned)
    assert lanes is not None
    first, length = int(lanes.slices.start_ns[0]), int(lanes.slices.duration_ns[0])
    session.viewport.selected_range = (first - session.origin_ns, first - session.origin_ns + length // 2)
    half = {str(section.title): section for section in range_sections(session)}[str(planned.title)]
    assert half.facts[0].value == "1"
    assert str(half.facts[1].value).endswith("(100%)")


def test_slices_without_a_category_are_told_apart_by_what_their_names_begin_with() -> None:
    names = ["hcom_allReduce__865_0_1", "hcom_allReduce__865_1_1", "Default/net/MatMul-op12", "Free", "12"]
    count = len(names)
    numbers = np.arange(count, dtype=np.int32)
    slices = Slices(
        np.arange(count, dtype=np.int64) * 10, np.full(count, 5, dtype=np.int64), numbers,
        np.zeros(count, dtype=np.int16), np.array([0, 0, 0, 0, 1], dtype=np.int32), names, ["", "AI_CORE", "unused"],
    )  # fmt: skip
    lanes = build_lanes(slices)
    assert sorted(lanes.kinds) == ["AI_CORE", "Free", "MatMul", "hcom_allReduce"]
    kinds = [lanes.kinds[code] for code in lanes.lanes[0].category.tolist()]
    assert kinds == ["hcom_allReduce", "hcom_allReduce", "MatMul", "Free", "AI_CORE"]


def test_of_a_track_with_a_name_for_each_slice_the_frequent_kinds_are_told_apart() -> None:
    """Went wrong once: the colours of 600,000 kinds were looked up while a frame was painted, for 9 s."""
    count = 5_000
    names = [f"op_{letter}x" for letter in range(count)]
    numbers = np.append(np.arange(count), np.full(10, count - 1)).astype(np.int32)
    rows = len(numbers)
    slices = Slices(
        np.arange(rows, dtype=np.int64) * 10, np.full(rows, 5, dtype=np.int64), numbers,
        np.zeros(rows, dtype=np.int16), np.zeros(rows, dtype=np.int32), names, [""],
    )  # fmt: skip
    lanes = build_lanes(slices)
    kinds = [lanes.kinds[code] for code in lanes.lanes[0].category.tolist()]
    assert len(lanes.kinds) < count / 2
    assert kinds[0] == names[0]
    assert kinds[-1] == names[-1]
    assert kinds[-12] == OTHER_KIND


def test_computing_and_waiting_have_their_own_colours(session: Session) -> None:
    palette = load_palette()
    overlap = [track for track in session.tracks.all if track.kind == "overlap"]
    for track in overlap:
        session.tracks.load(track)
    colours = {
        track.label: set(palette.table(lanes.kinds).tolist())
        for track in overlap
        if (lanes := session.tracks.lanes(track)) is not None
    }
    assert colours["Computing"] == {palette.category("Computing")}
    assert colours["Free"] == {palette.category("Free")}
    assert colours["Computing"] != colours["Free"]


def test_time_of_a_selection_counts_once_where_slices_lie_within_slices(tmp_path: Path) -> None:
    slices = [(0, 100, "step"), (10, 50, "op"), (20, 30, "call"), (200, 100, "other"), (250, 100, "late")]
    events = [
        {"ph": "X", "pid": 1, "tid": 1, "ts": f"{1_000 + start}", "dur": length, "name": name}
        for start, length, name in slices
    ]
    (tmp_path / "trace_view.json").write_text(json.dumps(events))
    session = open_session(Request(None, tmp_path))
    for track in session.tracks.all:
        session.tracks.load(track)
    session.viewport.selected_range = (0.0, 500_000.0)
    section = range_sections(session)[1]
    facts = {str(fact.label): str(fact.value) for fact in section.facts}
    assert facts["time"] == "250.000 µs (50%)"
    assert facts["call"] == "30.000 µs"


def test_search_finds_planned_and_measured_slices_of_one_name(session: Session) -> None:
    for track in session.tracks.all:
        session.tracks.load(track)
    hits = search_slices(session.tracks, "adam-OP0")
    assert {key.split("/")[0] for key in hits.tracks} >= {"plan", "stream"}
    assert hits.start_ns.tolist() == sorted(hits.start_ns.tolist())
    assert hits.total == len(hits)
    for position in range(len(hits)):
        item = hits.item(position)
        lanes = session.tracks.lanes(session.tracks.track(item.track))
        assert lanes is not None
        assert "adam-op0" in lanes.slices.names[lanes.slices.name[item.index]].casefold()
        assert lanes.slices.start_ns[item.index] == hits.start_ns[position]
    assert len(search_slices(session.tracks, "   ")) == 0
    assert len(search_slices(session.tracks, "no such op")) == 0


def test_search_finds_what_only_the_kernel_table_says_of_a_slice(tmp_path: Path) -> None:
    """Slices named by the op that they are of: their types, streams and steps are said elsewhere."""
    rows = [
        ("Default/o_proj-op3", "MatMulV3", 1, 10),
        ("Default/act-op4", "SwiGlu", 1, 50),
        ("o_proj", "MatMulV3", 2, 90),
    ]
    (tmp_path / "kernel_details.csv").write_text(
        "Step Id,Name,Type,Accelerator Core,Start Time(us),Duration(us)\n"
        + "".join(f"{step},{name},{kind},AI_CORE,{start}.0,20\n" for name, kind, step, start in rows)
    )
    events: list[dict[str, object]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "Ascend Hardware"}},
        {"ph": "M", "pid": 1, "tid": 7, "name": "thread_name", "args": {"name": "Stream 7"}},
    ]
    events += [
        {"ph": "X", "pid": 1, "tid": 7, "ts": f"{start}.0", "dur": 20, "name": name} for name, _, _, start in rows
    ]
    (tmp_path / "trace_view.json").write_text(json.dumps(events))
    session = open_session(Request(None, tmp_path))
    for track in session.tracks.all:
        session.tracks.load(track)
    names = [name for name, *_ in rows]
    asked = {
        "matmulv3": [names[0], names[2]], "Swi.lu": [], "Swi.*u$": [names[1]], "stream 7": names, "stream": [],
        "step 1": names[:2], "Step #2": names[2:], "step 3": [], "act-op4": [names[1]],
    }  # fmt: skip
    for text, expected in asked.items():
        hits = search_slices(session.tracks, text, document=session.document)
        found = [hits.item(position) for position in range(len(hits))]
        lanes = [session.tracks.lanes(session.tracks.track(item.track)) for item in found]
        said = [one.slices.names[one.slices.name[item.index]] for one, item in zip(lanes, found, strict=True) if one]
        assert said == expected, text


def test_search_takes_regular_expressions_and_names_as_they_are(session: Session) -> None:
    for track in session.tracks.all:
        session.tracks.load(track)

    def found(text: str) -> set[str]:
        hits, names = search_slices(session.tracks, text), set[str]()
        for position in range(len(hits)):
            item = hits.item(position)
            lanes = session.tracks.lanes(session.tracks.track(item.track))
            assert lanes is not None
            names.add(lanes.slices.names[lanes.slices.name[item.index]])
        return names

    either = found("(adam|matmul)-op[01]$")
    assert either
    assert all(name.casefold().endswith(("adam-op0", "adam-op1", "matmul-op0", "matmul-op1")) for name in either)
    assert either == found("Adam-op0$") | found("adam-op1$") | found("matmul-op0$") | found("MATMUL-OP1$")
    assert found("Default/optimizer-Adam/Adam-op0") == {"Default/optimizer-Adam/Adam-op0"} | found("Adam/Adam-op0")
    assert found("ProfilerStep#1") == {"ProfilerStep#1"}  # nothing in it is meant as an expression
    assert found("[unfinished") == set()


def test_an_op_or_a_tensor_has_its_range_of_time(session: Session) -> None:
    session.select(OpRef(3))
    start, _ = session.selected_span() or (0.0, 0.0)
    op = session.document.plan.ops[3]
    assert int(start) + session.origin_ns == session.document.axis.to_profile(op.start_ns)
    session.select(TensorRef(0))
    assert session.selected_span() is not None
    plan, mapped = session.document.plan, session.map
    assert plan is not None
    assert mapped is not None
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    for rectangle in range(len(mapped)):
        made_by = tensors[plan.placements[int(mapped.placement[rectangle])].tensor].producer
        assert session.planned_op_of(TensorRef(rectangle)) == made_by


def test_a_plan_alone_and_a_profile_alone_are_shown(tmp_path: Path) -> None:
    plan_only = open_session(Request(PLAN))
    assert str(plan_only.document.basis) == "plan time"
    assert plan_only.curves.measured == ()
    profile_only = open_session(Request(profile=PROFILE))
    assert profile_only.map is None
    assert profile_only.curves.measured
    assert make_document().empty


def test_files_are_told_apart(tmp_path: Path) -> None:
    request = request_for([PLAN, PROFILE])
    assert (request.plan, request.profile) == (PLAN, PROFILE)
    csv = next(PROFILE.rglob("kernel_details.csv"))
    assert request_for([csv]).profile == csv.parent
    with pytest.raises(InputError):
        open_session(Request(profile=tmp_path))


def test_zooming_keeps_the_moment_under_the_mouse() -> None:
    viewport = Viewport((0.0, 1000.0))
    viewport.zoom(0.5, 300.0)
    assert (viewport.start, viewport.end) == (150.0, 650.0)
    viewport.pan(-1e9)
    assert viewport.start == 0.0
    viewport.reveal(400.0, 420.0)
    viewport.back()
    assert (viewport.start, viewport.end) == (0.0, 500.0)


def test_counters_say_their_values_at_a_moment_and_how_high_they_reach(session: Session) -> None:
    track = next(track for track in session.tracks.all if track.kind == "counter")
    times = np.array([100, 200, 300], dtype=np.int64)
    series = (
        CounterSeries("read", "MB/s", times, np.array([1.5, 1234.56, np.nan])),
        CounterSeries("frequency", "MHz", times[1:], np.array([1850.0, 800.0])),
    )
    assert [str(line) for line in counter_lines(track, series, 199)][1:] == ["read: 1.5 MB/s", "frequency: –"]
    assert [str(line) for line in counter_lines(track, series, 200)][1:] == [
        "read: 1,234.6 MB/s",
        "frequency: 1,850 MHz",
    ]
    assert [str(line) for line in counter_lines(track, series, 999)][1:] == ["read: –", "frequency: 800 MHz"]
    assert str(highest_text(series)) == "highest 1,850 MHz"
    assert highest_text(()) is None
    assert str(counter_lines(track, series * 10, 200)[-1]) == "6 more"


def test_a_plan_and_a_profile_that_cannot_be_compared_say_why(session: Session) -> None:
    document = session.document
    alone = replace(document, comparison=None, basis=Sentence("both begin together: {}", ("no kernels",)))
    assert str(verdict(alone)) == "not compared; both begin together: no kernels"
    assert str(verdict(replace(alone, rank=None))) == "not compared; the profile holds no ranks"
    assert verdict(replace(alone, plan=None)) is None


def test_a_profile_that_is_one_file_is_not_called_a_directory(tmp_path: Path) -> None:
    """Went wrong: a memory snapshot's details called it a directory."""
    for path, label in ((snapshot(tmp_path), "file"), (PROFILE, "directory")):
        session = open_session(Request(None, path))
        facts = {str(fact.label): str(fact.value) for section in item_sections(session, None) for fact in section.facts}
        assert facts[label] == path.name
