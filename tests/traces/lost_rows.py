"""
Whether damage to a profile loses anything in silence: what was read is held against what the whole file held.

Each file is made here of records that carry a word of their own. A record whose word is still in the damaged file but
that is not read, or whose bytes are all there but that is read with other values, must be covered by a note that tells
of something missing. `python -m tests.traces.lost_rows 100000 [SEED]` tries as many as one likes.
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.profile import NoteSeverity
from memplan.traces.rank import RankProfile

BEGIN_US = 1_760_000_000_000_000
_ROWS = 12
_NUMBERS = range(8_700_100, 8_700_100 + _ROWS)

Row = tuple[str, tuple[object, ...]]
"""The word of a record, and what it says."""
Values = Mapping[str, tuple[object, ...]]
Reading = Callable[[RankProfile], Iterator[Row]]


@dataclass(frozen=True)
class Known:
    """A file of a profile: its name and bytes, the bytes and values of each record by its word, how to read it."""

    name: str
    content: bytes
    records: Mapping[str, bytes]
    values: Values
    read: Reading


def _word(kind: str, number: int) -> str:
    return f"{kind}{number:03d}z"


def _table(name: str, header: str, rows: Mapping[str, str], values: Values, read: Reading) -> Known:
    records = {word: row.encode() for word, row in rows.items()}
    return Known(name, "\n".join((header, *rows.values(), "")).encode(), records, values, read)


def _kernels(rank: RankProfile) -> Iterator[Row]:
    found = rank.kernels()
    if found is not None:
        columns = (found.start_ns.tolist(), found.duration_ns.tolist(), found.type)
        yield from ((name, tuple(row)) for name, *row in zip(found.name, *columns, strict=True))


def _allocations(rank: RankProfile) -> Iterator[Row]:
    found = rank.allocations()
    if found is not None:
        columns = (found.size.tolist(), found.allocation_ns.tolist(), found.release_ns.tolist())
        yield from ((name, tuple(row)) for name, *row in zip(found.name, *columns, strict=True))


def _samples(rank: RankProfile) -> Iterator[Row]:
    """Samples of all curves by their time, which is the word of each."""
    for curve in rank.memory_curves().values():
        sizes = curve.allocated.tolist() if curve.allocated is not None else [None] * len(curve.time_ns)
        for time, size in zip(curve.time_ns.tolist(), sizes, strict=True):
            yield f"{time // 1000}.{time % 1000:03d}", (size,)


def _steps(rank: RankProfile) -> Iterator[Row]:
    return ((f"{step.step}", (step.computing_ns, step.free_ns, step.iteration_ns)) for step in rank.steps())


def _slices(rank: RankProfile) -> Iterator[Row]:
    rank.timeline()
    for track in rank.tracks:
        rows = rank.slices(track.id)
        times = zip(rows.start_ns.tolist(), rows.duration_ns.tolist(), strict=True)
        yield from ((rows.names[name], time) for name, time in zip(rows.name.tolist(), times, strict=True))


def _communications(rank: RankProfile) -> Iterator[Row]:
    return ((one.op, (one.start_ns, one.elapsed_ns, one.wait_ns, one.size)) for one in rank.communications())


def _links(rank: RankProfile) -> Iterator[Row]:
    return ((use.op.partition("@")[0], (use.source, use.target, use.size)) for use in rank.links())


def _kernel_file(name: str) -> Known:
    header = "Step Id,Name,Type,Accelerator Core,Start Time(us),Duration(us),Wait Time(us)"
    words = [_word("MatMul", number) for number in range(_ROWS)]
    rows = {
        word: f"1,{word},MatMulV2,AI_CORE,{BEGIN_US + 100 * number}.{number:03d}\t,5{number}.125,0.5"
        for number, word in enumerate(words)
    }
    values = {
        word: ((BEGIN_US + 100 * number) * 1000 + number, int(f"5{number}125"), "MatMulV2")
        for number, word in enumerate(words)
    }
    return _table(name, header, rows, values, _kernels)


def _trace_file(around: bool, lines: bool) -> Known:
    words = [_word("slice", number) for number in range(_ROWS)]
    records = {
        word: json.dumps(
            {"name": word, "ph": "X", "pid": 7, "tid": 1, "ts": f"{BEGIN_US + 100 * number}.250", "dur": 50.125,
             "args": {"Task Type": "AI_CORE", "path": f"a{number}"}}
        ).encode()
        for number, word in enumerate(words)
    }  # fmt: skip
    values = {word: ((BEGIN_US + 100 * number) * 1000 + 250, 50_125) for number, word in enumerate(words)}
    head, end = (b'{"schemaVersion": 1, "traceEvents": [', b"]}") if around else (b"[", b"]")
    names = b'{"name": "process_name", "ph": "M", "pid": 7, "tid": 0, "args": {"name": "Ascend Hardware"}}'
    separator = b",\n" if lines else b", "
    return Known("trace_view.json", head + separator.join((names, *records.values())) + end, records, values, _slices)


def _communication_file() -> Known:
    words = [_word("hcomAllReduce", number) for number in range(_ROWS)]
    records, values = {}, {}
    for number, word in enumerate(words):
        times = {"Start Timestamp(us)": BEGIN_US + 100 * number + 0.5, "Elapse Time(ms)": 5.5, "Transit Time(ms)": 1.0,
                 "Wait Time(ms)": 4.5, "Synchronization Time(ms)": 0.5}  # fmt: skip
        links = {"HCCS": {"Transit Size(MB)": 1.5, "Transit Time(ms)": 0.25, "Size Distribution": {}}}
        entry = {"Communication Time Info": times, "Communication Bandwidth Info": links}
        records[word] = f'"{word}@7": {json.dumps(entry)}'.encode()
        values[word] = ((BEGIN_US + 100 * number) * 1000 + 500, 5_500_000, 4_500_000, 1_500_000)
    content = b'{"step1": {"p2p": {}, "collective": {' + b", ".join(records.values()) + b"}}}"
    return Known("communication.json", content, records, values, _communications)


def _matrix_file() -> Known:
    words = [_word("allreduceTop", number) for number in range(_ROWS)]
    records, values = {}, {}
    for number, word in enumerate(words):
        told = {"Transport Type": "HCCS", "Transit Size(MB)": 1.5, "Transit Time(ms)": 0.5, "Bandwidth(GB/s)": 3.0}
        records[word] = f'"{word}@7": {json.dumps({f"0-{number + 1}": told})}'.encode()
        values[word] = (0, number + 1, 1_500_000)
    content = b'{"step1": {"p2p": {}, "collective": {' + b", ".join(records.values()) + b"}}}"
    return Known("communication_matrix.json", content, records, values, _links)


def _allocation_file() -> Known:
    header = "Name,Size(KB),Allocation Time(us),Release Time(us),Device Type"
    rows: dict[str, str] = {}
    values: dict[str, tuple[object, ...]] = {}
    for number in range(_ROWS):
        word, begin = _word("aten::mm", number), BEGIN_US + number
        rows[word] = f"{word},{number + 1}.5,{begin}.125,{begin + 5}.250,NPU:0"
        values[word] = ((2 * number + 3) * 512, begin * 1000 + 125, (begin + 5) * 1000 + 250)
    return _table("operator_memory.csv", header, rows, values, _allocations)


def _record_file() -> Known:
    header = "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Device Type"
    times = [f"{BEGIN_US + 10 * number}.125" for number in range(_ROWS)]
    rows = {time: f"PTA,{time},{number + 1}.5,20.0,NPU:0" for number, time in enumerate(times)}
    values = {time: ((2 * number + 3) << 19,) for number, time in enumerate(times)}
    return _table("memory_record.csv", header, rows, values, _samples)


def _step_file() -> Known:
    header = "Device_id,Step,Computing,Communication(Not Overlapped),Overlapped,Communication,Free"
    rows = {str(number): f"0,{number},{number % 1000}.5,0.0,0.0,0.0,250.125" for number in _NUMBERS}
    values = {str(number): (number % 1000 * 1000 + 500, 250_125, None) for number in _NUMBERS}
    return _table("step_trace_time.csv", header, rows, values, _steps)


def _iteration_file() -> Known:
    header = "Device_id,Iteration ID,FP Start(us),Iteration End(us),Iteration Time(us)"
    rows = {str(number): f"0,{number},{BEGIN_US},{BEGIN_US + number % 1000}.5,{number % 1000}.5" for number in _NUMBERS}
    values = {str(number): (None, None, number % 1000 * 1000 + 500) for number in _NUMBERS}
    return _table("step_trace_1.csv", header, rows, values, _steps)


def _database_file() -> Known:
    words = [_word("MatMul", number) for number in range(_ROWS * 20)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        with closing(sqlite3.connect(path)) as data, data:
            data.execute("PRAGMA page_size = 1024")
            data.execute("CREATE TABLE STRING_IDS (id INTEGER PRIMARY KEY, value TEXT)")
            data.execute("CREATE TABLE COMPUTE_TASK_INFO (globalTaskId INTEGER, name INTEGER, opType INTEGER)")
            data.execute("CREATE TABLE TASK (globalTaskId INTEGER, startNs INTEGER, endNs INTEGER, streamId INTEGER)")
            data.execute("INSERT INTO STRING_IDS VALUES (1000, 'MatMulV2')")
            for number, word in enumerate(words):
                start = (BEGIN_US + 100 * number) * 1000
                data.execute("INSERT INTO STRING_IDS VALUES (?, ?)", (number, word))
                data.execute("INSERT INTO COMPUTE_TASK_INFO VALUES (?, ?, 1000)", (number, number))
                data.execute("INSERT INTO TASK VALUES (?, ?, ?, 3)", (number, start, start + 50_000))
        content = path.read_bytes()
    values = {word: ((BEGIN_US + 100 * number) * 1000, 50_000, "MatMulV2") for number, word in enumerate(words)}
    return Known("ascend_pytorch_profiler_0.db", content, {}, values, _kernels)


def known_files() -> list[Known]:
    """One file of each kind."""
    found = [_kernel_file("kernel_details.csv"), _kernel_file("op_summary_20250101000000.csv")]
    found += [_trace_file(around, lines) for around in (False, True) for lines in (False, True)]
    found += [_communication_file(), _matrix_file()]
    found += [_allocation_file(), _record_file(), _step_file(), _iteration_file(), _database_file()]
    return found


_INSERTED = (
    b'"', b"\\", b",", b";", b"\t", b"\n", b"\r", b"\0", b"\xff", b"{", b"}", b"[", b"]", b"N/A", b"nan", b"-1",
    b"1e400", b'""', b"}, {", b"\n\n\n", b"9" * 40, b"\\u12", b"\xef\xbb\xbf", b"\xe6\x97",
)  # fmt: skip


def damaged(rng: random.Random, content: bytes) -> bytes:
    """`content` with one to three places damaged."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.choice((1, 1, 2, 5, 30, 200))]
        elif kind == 3:
            data[at:at] = data[max(at - rng.randrange(1, 300), 0) : at]
        elif kind in (4, 5):
            data[at : at + rng.choice((0, 0, 1, 3))] = rng.choice(_INSERTED)
        elif kind == 6:
            data[at : at + rng.randrange(1, 64)] = b"\0" * rng.randrange(1, 64)
        else:
            line = data.find(b"\n", at)
            other = data.find(b"\n", line + 1)
            if 0 <= line < other:
                del data[line:other]
    return bytes(data)


def outcome(known: Known, content: bytes, folder: Path) -> str:
    """
    `read` where all that is there is read, `noted` or `refused` where a note or an error tells of what is not.

    Raises `AssertionError` where something is lost or changed in silence.
    """
    output = folder / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True, exist_ok=True)
    path = output / known.name
    path.write_bytes(content)
    try:
        profile = open_profile(folder, cache=folder / "cache")
        rows = (row for number in profile.ranks for row in known.read(profile.rank(number)))
        found: dict[str, list[tuple[object, ...]]] = {}
        for word, row in rows:
            found.setdefault(word, []).append(row)
        warned = [note for note in profile.notes if note.severity is NoteSeverity.WARNING]
    except InputError:
        return "refused"
    finally:
        path.unlink()
    if warned:
        return "noted"
    if not known.records:  # of a binary file: a changed byte makes another name or time, which nothing can tell
        assert sum(map(len, found.values())) >= len(known.values), f"{known.name}: rows are missing"
        return "read"
    names = "\n".join(found)
    # Damage may make another valid file: a header of another unit, a slice that becomes the end of an arrow.
    same_header = not known.name.endswith(".csv") or content.startswith(known.content.partition(b"\n")[0])
    same_phases = content.count(b'"ph": "X"') >= known.content.count(b'"ph": "X"')
    for word, values in known.values.items():
        record = known.records[word]
        whole = re.search(re.escape(record) + rb"(?!\d)", content) is not None  # further digits make another number
        there = whole or (_stands_in(word, content) and same_phases)
        assert word in names or not there, f"{known.name}: {word} is in the file, but not read"
        if word in found and whole and same_header:
            assert values in found[word], f"{known.name}: {word} reads {found[word]}, not {values}"
    if not known.name.endswith(".csv") and known.content.startswith(content):
        assert found.keys() >= known.values.keys(), f"{known.name}: cut to {len(content)} bytes in silence"
    return "read"


def _stands_in(word: str, content: bytes) -> bool:
    """Whether a word is there as it was; digits after it make another number of it."""
    return re.search(re.escape(word.encode()) + rb"(?!\d)", content) is not None


def try_many(count: int, seed: int, folder: Path, keep: Callable[[str, bytes], None] | None = None) -> Counter[str]:
    """Outcomes of `count` damaged files; one that loses something is kept by `keep`, or raises."""
    rng = random.Random(seed)
    files = known_files()
    found: Counter[str] = Counter()
    for _ in range(count):
        known = rng.choice(files)
        content = damaged(rng, known.content)
        try:
            found[outcome(known, content, folder)] += 1
        except Exception as error:
            if keep is None:
                raise
            found["lost"] += 1
            keep(f"{type(error).__name__}: {error}", content)
    return found


if __name__ == "__main__":
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
        outcomes = try_many(int(sys.argv[1]), seed, Path(scratch), lambda why, _: failures.append(why))
    print(dict(outcomes), *(why[:300] for why in failures[:40]), sep="\n")
    sys.exit(bool(failures))
