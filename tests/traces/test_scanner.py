"""The compiled reader of traces gives what the plain one gives, however the file is cut and whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memplan.core.errors import CancelledError
from memplan.core.progress import silent
from memplan.traces.decimals import nanoseconds
from memplan.traces.notes import Notebook
from memplan.traces.scan import threads as scan
from memplan.traces.scan.threads import scan_events
from memplan.traces.timeline.events import Events, plain_json, read_events
from memplan.traces.timeline.tracks import build


def rows(events: Events) -> dict[str, list[tuple[object, ...]]]:
    """The events as sorted rows of plain values, independent of how strings and threads are numbered."""
    text, thread = events.strings, events.threads
    slices, samples, flows = events.slices, events.samples, events.flows
    return {
        "slices": sorted(
            (int(start), int(length), thread[lane], text[name], text[kind], bool(size))
            for start, length, lane, name, kind, size in zip(
                slices.start_ns, slices.duration_ns, slices.thread, slices.name, slices.category,
                slices.arguments_size, strict=True,
            )
        ),
        "samples": sorted(
            (int(time), thread[lane], text[name], text[key], int(instance), float(f"{value:.12g}"))
            for time, lane, name, key, instance, value in zip(
                samples.time_ns, samples.thread, samples.name, samples.key, samples.instance, samples.value, strict=True
            )
        ),
        "flows": sorted(
            (int(time), thread[lane], int(phase), text[kind])
            for time, lane, phase, kind in zip(flows.time_ns, flows.thread, flows.phase, flows.category, strict=True)
        ),
        "metadata": sorted((json.dumps(plain_json(dict(event)), sort_keys=True),) for event in events.metadata),
    }  # fmt: skip


def both(path: Path) -> tuple[Events, Events]:
    notes = Notebook(path.parent)
    return scan_events(path, notes, silent, workers=2), read_events(path, path.read_bytes(), notes, silent)


@pytest.mark.parametrize(
    "name",
    [
        "alexnet-ddp-2rank/text/level2/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json",
        "alexnet-ddp-2rank/text/level0/rank1_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json",
        "msprof-analyze-fixtures/advisor/timeline_advice/trace_view.json",
    ],
)
def test_real_traces_read_alike(shared_data: Path, name: str) -> None:
    compiled, reference = both(shared_data / "profiles" / name)
    assert rows(compiled) == rows(reference)


def test_times_as_floats_since_boot(shared_data: Path) -> None:
    (path,) = (shared_data / "profiles/mindspore-alexnet-2023").glob("*/device_0/timeline/msprof_0_2_1.json")
    compiled, reference = both(path)
    assert rows(compiled) == rows(reference)
    assert 56635864652490 in compiled.slices.start_ns, "56635864652.490005 us"


@pytest.mark.parametrize("piece", [200, 777, 4096])
def test_where_the_file_is_cut_makes_no_difference(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    source = shared_data / "profiles/msprof-analyze-fixtures/advisor/timeline_advice/trace_view.json"
    events = json.loads(source.read_text())[:1200]
    tricky = {
        "ph": "X", "pid": 1, "tid": "worker", "ts": "9.5", "dur": 1, "name": 'text }, {"ph": "X"} \\" and more',
        "args": {"list": [{"a": 1}, {"b": [{}, {}]}], "quote": '\\', "brace": "}, {"},
    }  # fmt: skip
    for place in range(0, len(events), 50):
        events.insert(place, tricky)
    path = tmp_path / "trace_view.json"
    path.write_text(json.dumps(events))
    monkeypatch.setattr(scan, "_PIECE", piece)
    monkeypatch.setattr(scan, "_BEYOND", 64)
    compiled, reference = both(path)
    assert rows(compiled) == rows(reference)


def test_arguments_are_found_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text(
        '[{"ph":"X","name":"a","pid":1,"tid":2,"ts":"1.000","dur":2,"args":{"Task Type":"AI_CORE","n":[1,{"x":2}]}}]'
    )
    events = scan_events(path, Notebook(tmp_path), silent)
    at, size = int(events.slices.arguments_at[0]), int(events.slices.arguments_size[0])
    assert json.loads(path.read_bytes()[at : at + size]) == {"Task Type": "AI_CORE", "n": [1, {"x": 2}]}
    assert events.strings[events.slices.category[0]] == "AI_CORE"


@pytest.mark.parametrize(
    "text",
    [
        '{"traceEvents": [%s], "displayTimeUnit": "ms"}',
        'profilingType:op\n[%s]',
        '\ufeff[%s]',
        '[\r\n  %s\r\n]\r\n',
        '{"displayTimeUnit": "ms", "traceEvents" : [%s]}',
    ],
)  # fmt: skip
def test_forms_of_the_list(tmp_path: Path, text: str) -> None:
    event = '{"ph" : "X" , "name":"op","pid":1,"tid":2,"ts":1.5,"dur":"2.25"}'
    path = tmp_path / "trace_view.json"
    path.write_text(text % ", ".join([event] * 3), encoding="utf-8")
    compiled, reference = both(path)
    assert rows(compiled) == rows(reference)
    assert compiled.slices.start_ns.tolist() == [1500] * 3
    assert compiled.slices.duration_ns.tolist() == [2250] * 3


def test_a_truncated_file_gives_what_it_has_and_a_note(tmp_path: Path) -> None:
    event = '{"ph":"X","name":"op","pid":1,"tid":2,"ts":"%d.000","dur":1}'
    path = tmp_path / "trace_view.json"
    path.write_text(("[" + ", ".join(event % n for n in range(100)))[:-20])
    notes = Notebook(tmp_path)
    assert len(scan_events(path, notes, silent).slices.start_ns) == 99
    note, end = notes.notes
    assert "ends without its closing bracket" in end.text
    assert "damaged" in note.text


def test_damage_in_the_middle_costs_only_what_is_damaged(tmp_path: Path) -> None:
    events = [json.dumps({"ph": "X", "name": "op", "pid": 1, "tid": 2, "ts": f"{n}.000", "dur": 1}) for n in range(100)]
    events[40] = '{"ph":"X","name":}'
    events[60] = events[60].replace("60.000", "never")
    path = tmp_path / "trace_view.json"
    path.write_text("[" + ", ".join(events) + "]")
    for reader in (scan_events, lambda path, notes, progress: read_events(path, path.read_bytes(), notes, progress)):
        notes = Notebook(tmp_path)
        found = reader(path, notes, silent)
        assert found.slices.start_ns.tolist() == [n * 1000 for n in range(100) if n not in (40, 60)]
        assert {note.text.split()[0] for note in notes.notes} == {"damaged:", "1"}


def test_hostile_nesting_and_numbers_are_passed_over(tmp_path: Path) -> None:
    good = '{"ph":"X","name":"op","pid":1,"tid":2,"ts":"5.000","dur":1}'
    deep = (
        '{"ph":"X","name":"deep","pid":1,"tid":2,"ts":"6.000","dur":1,"args":'
        + '{"a":' * 100_000
        + "1"
        + "}" * 100_000
        + "}"
    )
    huge = '{"ph":"X","name":"huge","pid":1,"tid":2,"ts":"' + "9" * 100_000 + '","dur":1}'
    path = tmp_path / "trace_view.json"
    path.write_text(f"[{good}, {deep}, {huge}, {good}]")
    for reader in (scan_events, lambda path, notes, progress: read_events(path, path.read_bytes(), notes, progress)):
        starts = reader(path, Notebook(tmp_path), silent).slices.start_ns.tolist()
        assert starts.count(5000) == 2
        assert set(starts) <= {5000, 6000}


def test_many_names_and_threads_make_the_tables_grow(tmp_path: Path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text(
        "[" + ",".join(
            json.dumps({"ph": "X", "name": f"name {n} é", "pid": n % 3000, "tid": n, "ts": f"{n}.001", "dur": 1})
            for n in range(40_000)
        ) + "]"
    )  # fmt: skip
    compiled, reference = both(path)
    assert rows(compiled) == rows(reference)
    assert len(compiled.threads) == 40_000


def test_cancelling_stops_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "trace_view.json"
    path.write_text("[" + ",".join(['{"ph":"X","name":"op","pid":1,"tid":2,"ts":"5.000","dur":1}'] * 1000) + "]")

    def stop(done: int, total: int, what: str) -> None:
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        scan_events(path, Notebook(tmp_path), stop)


@settings(max_examples=300)
@example("0E20")
@given(
    st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=6).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text("0123456789.eE+- \t", max_size=24),
        st.integers(-(10**20), 10**20).map(str),
    )
)
def test_decimals_are_exact_and_alike(text: str) -> None:
    from memplan.traces.scan import json_text

    raw = np.frombuffer(text.encode() + b"\0" * 16, dtype=np.uint8).copy()
    value, valid = json_text.scaled_ns(raw.ctypes.data, 0, len(text))
    expected = nanoseconds(text)
    if expected is not None and abs(expected) > 9 * 10**18:
        return  # the last few of 64 bits are refused by the compiled one
    if "e" in text.lower() and expected is not None and valid:
        assert abs(value - expected) <= 1, "exponents are read to 18 digits"
    else:
        assert (value if valid else None) == expected


def test_timelines_are_alike_too(shared_data: Path) -> None:
    path = shared_data / "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json"
    one, two = (build(events, {}) for events in both(path))
    assert one.tracks == two.tracks
    for name in ("start_ns", "duration_ns", "depth", "reach_ns", "covered_ns"):
        assert np.array_equal(getattr(one.slices, name), getattr(two.slices, name)), name
