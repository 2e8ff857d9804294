"""Trace files as they come from the field: cut, strayed, in other encodings, told by begin and end."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.traces import open_profile

BEGIN_US = 1_760_000_000_000_000


def slice_event(number: int, start_us: int, duration_us: int = 50) -> dict[str, object]:
    return {
        "ph": "X", "name": f"k{number}", "pid": 1, "tid": 1, "ts": f"{start_us}.000", "dur": duration_us,
        "args": {"Task Type": "AI_CORE"},
    }  # fmt: skip


def read_trace(text: bytes, packed: bool) -> tuple[list[str], str, tuple[int, int]]:
    """Names of slices, notes and span of a trace file, as a small file or through the reader of large ones."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("trace_view.json.gz" if packed else "trace_view.json")
        path.write_bytes(gzip.compress(text) if packed else text)
        profile = open_profile(path, cache=Path(folder) / "cache")
        rank = profile.rank(0)
        names = [
            slices.names[name]
            for track in rank.tracks
            for slices in (rank.slices(track.id),)
            for name in slices.name.tolist()
        ]
        return names, "\n".join(note.text for note in profile.notes), rank.span_ns


@settings(max_examples=40)
@given(count=st.integers(2, 6), kept=st.integers(1, 6), around=st.booleans(), comma=st.booleans(), packed=st.booleans())
def test_a_trace_that_stops_between_two_events_is_noted(
    count: int, kept: int, around: bool, comma: bool, packed: bool
) -> None:
    events = [json.dumps(slice_event(i, BEGIN_US + 100 * i)) for i in range(count)]
    head, end = ('{"schemaVersion": 1, "traceEvents": [', "]}") if around else ("[", "]")
    whole = head + ",".join(events) + end
    names, notes, _ = read_trace(whole.encode(), packed)
    assert len(names) == count
    assert "closing bracket" not in notes
    kept = min(kept, count)
    cut = head + ",".join(events[:kept]) + ("," if comma else "")
    names, notes, _ = read_trace(cut.encode(), packed)
    assert len(names) == kept
    assert "ends without its closing bracket" in notes


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("path", [r"C:\work\x.py", r"D:\users\q\u12.py", r"\\server\share", r"a\'b"])
def test_escapes_that_json_does_not_know_lose_no_event(packed: bool, path: str) -> None:
    events = [slice_event(i, BEGIN_US + 100 * i) for i in range(3)]
    text = json.dumps(events).replace("AI_CORE", path, 1)
    assert read_trace(text.encode(), packed)[0] == ["k0", "k1", "k2"]


@settings(max_examples=40)
@given(
    count=st.integers(3, 8),
    stray=st.sampled_from([(0, 1), (-1, 1), (123456, 1), (BEGIN_US, 1_700_000_000_000_000), (4 * BEGIN_US, 5)]),
    packed=st.booleans(),
)
def test_one_time_far_out_is_set_aside(count: int, stray: tuple[int, int], packed: bool) -> None:
    events = [slice_event(i, BEGIN_US + 100 * i) for i in range(count)]
    events.insert(1, slice_event(99, *stray))
    names, notes, (first, last) = read_trace(json.dumps(events).encode(), packed)
    assert names == [f"k{i}" for i in range(count)]
    assert (first, last) == (BEGIN_US * 1000, (BEGIN_US + 100 * (count - 1) + 50) * 1000)
    assert "far from all others" in notes or "without a usable time" in notes


def test_two_recordings_in_one_file_are_both_kept() -> None:
    hours = [slice_event(i, BEGIN_US + 100 * i + (i % 2) * 3_600_000_000 * 5) for i in range(8)]
    names, notes, _ = read_trace(json.dumps(hours).encode(), False)
    assert len(names) == 8
    assert "far from all others" not in notes


@settings(max_examples=40)
@given(offset=st.integers(0, 99), inner=st.booleans())
def test_an_arrow_belongs_to_the_innermost_slice_around_its_start(offset: int, inner: bool) -> None:
    """A launch of 100 us, in it perhaps an inner one of [40, 60) us; the arrow starts `offset` us into the launch."""
    events: list[dict[str, object]] = [
        {"ph": "X", "name": "launch", "pid": 1, "tid": 1, "ts": BEGIN_US, "dur": 100},
        {"ph": "X", "name": "kernel", "pid": 2, "tid": 1, "ts": BEGIN_US + 500, "dur": 100},
        {"ph": "s", "cat": "async_npu", "name": "a", "id": 7, "pid": 1, "tid": 1, "ts": BEGIN_US + offset},
        {"ph": "f", "cat": "async_npu", "name": "a", "id": 7, "pid": 2, "tid": 1, "ts": BEGIN_US + 500, "bp": "e"},
    ]
    if inner:
        events.append({"ph": "X", "name": "inner", "pid": 1, "tid": 1, "ts": BEGIN_US + 40, "dur": 20})
    with TemporaryDirectory() as folder:
        (Path(folder) / "trace_view.json").write_text(json.dumps(events))
        rank = open_profile(folder).rank(0)
        in_inner = inner and 40 <= offset < 60
        host = next(track.id for track in rank.tracks if rank.slices(track.id).start_ns[0] == BEGIN_US * 1000)
        assert len(rank.flows(host, BEGIN_US * 1000)) == (0 if in_inner else 1)
        if inner:
            assert len(rank.flows(host, (BEGIN_US + 40) * 1000)) == (1 if in_inner else 0)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_trace_saved_as_utf_16_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, encoding: str
) -> None:
    events = [{**slice_event(i, BEGIN_US + 100 * i), "name": f"核{i}"} for i in range(4)]
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (tmp_path / "trace_view.json").write_bytes(mark + json.dumps(events, ensure_ascii=False).encode(encoding))
    if large:
        monkeypatch.setattr("memplan.traces.readers.trace_file.SMALL", 10)
    profile = open_profile(tmp_path, cache=tmp_path / "cache")
    rank = profile.rank(0)
    (track,) = rank.tracks
    slices = rank.slices(track.id)
    assert [slices.names[name] for name in slices.name] == [f"核{i}" for i in range(4)]
    assert rank.arguments(track.id, BEGIN_US * 1000) == {"Task Type": "AI_CORE"}
    assert "written as UTF-16: read so" in "\n".join(note.text for note in profile.notes)


@settings(max_examples=30)
@given(tree=st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=3), max_leaves=8), packed=st.booleans())
def test_slices_told_by_begin_and_end_are_those_told_whole(tree: list[object], packed: bool) -> None:
    """Slices of a tree, one in another, as `B` and `E` on one thread and as `X` on another."""
    events: list[dict[str, object]] = []
    clock = iter(range(1, 1000))

    def tell(inner: object, number: int) -> int:
        start, name = next(clock), f"s{number}"
        shared = {"name": name, "pid": 1, "ts": f"{BEGIN_US + start}.000"}
        events.append({**shared, "ph": "B", "tid": 1, "args": {"of": name}})
        last = number
        for one in inner if isinstance(inner, list) else ():
            last = tell(one, last + 1)
        end = next(clock)
        events.append({"ph": "E", "pid": 1, "tid": 1, "ts": f"{BEGIN_US + end}.000"})
        events.append({**shared, "ph": "X", "tid": 2, "dur": end - start})
        return last

    tell(tree, 0)
    with TemporaryDirectory() as folder:
        text = json.dumps(events).encode()
        path = Path(folder) / ("trace_view.json.gz" if packed else "trace_view.json")
        path.write_bytes(gzip.compress(text) if packed else text)
        profile = open_profile(path, cache=Path(folder) / "cache")
        rank = profile.rank(0)
        halves, whole = (rank.slices(track.id) for track in rank.tracks)
        for column in ("start_ns", "duration_ns", "depth"):
            assert getattr(halves, column).tolist() == getattr(whole, column).tolist()
        assert [halves.names[name] for name in halves.name] == [whole.names[name] for name in whole.name]
        assert rank.arguments(rank.tracks[0].id, int(halves.start_ns[0])) == {"of": "s0"}
        assert not profile.notes


@pytest.mark.parametrize("packed", [False, True])
def test_ends_without_another_are_noted(packed: bool) -> None:
    events: list[dict[str, object]] = [
        {"ph": "E", "pid": 1, "tid": 1, "ts": BEGIN_US},
        {"ph": "B", "name": "whole", "pid": 1, "tid": 1, "ts": BEGIN_US + 1},
        {"ph": "E", "pid": 1, "tid": 1, "ts": BEGIN_US + 2},
        {"ph": "B", "name": "open", "pid": 1, "tid": 1, "ts": BEGIN_US + 3},
        {"ph": "B", "name": "other thread", "pid": 1, "tid": 2, "ts": BEGIN_US + 3},
    ]
    names, notes, _ = read_trace(json.dumps(events).encode(), packed)
    assert names == ["whole"]
    assert "3 events of phases 'B' and 'E' without another end" in notes
