"""Kinds of trouble that profiles have in the field: each is read rightly, or a note says what is missing."""

from __future__ import annotations

import codecs
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.directory import Profile
from memplan.traces.notes import Notebook
from memplan.traces.summaries import summarise_ranks

BEGIN_US = 1_760_000_000_000_000
HEADERS = ("Step Id", "Name", "Type", "Start Time(us)", "Duration(us)", "Wait Time(us)", "Input Shapes")


def texts(profile: Profile) -> str:
    return "\n".join(f"{note.file}: {note.text}" for note in profile.notes)


def rows_of(count: int, first: int = 0) -> list[tuple[str, ...]]:
    """Kernels of 50.125 us, one every 100 us."""
    return [
        ("1", f"MatMul{i}", "MatMulV2", f"{BEGIN_US + 100 * i}.125", "50.125", "0.500", '"4096,1024;1024"')
        for i in range(first, first + count)
    ]


def table(rows: list[tuple[str, ...]], separator: str = ",", point: str = ".", end: str = "\n") -> str:
    def cell(text: str, header: str) -> str:
        text = text.replace(".", point) if header.endswith("(us)") else text
        return '"' + text.replace('"', '""') + '"' if separator in text or '"' in text else text

    lines = [separator.join(HEADERS)]
    lines += [separator.join(map(cell, row, HEADERS)) for row in rows]
    return end.join((*lines, ""))


def output_folder(root: Path, rank: int = 0) -> Path:
    output = root / f"rank{rank}_ascend_pt/ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    (output.parent / f"profiler_info_{rank}.json").write_text("{}")
    return output


def kernel_times(profile: Profile) -> list[tuple[str, int, int]]:
    kernels = profile.rank(0).kernels()
    if kernels is None:
        return []
    return list(zip(kernels.name, kernels.start_ns.tolist(), kernels.duration_ns.tolist(), strict=True))


# Tables saved by a spreadsheet


@settings(max_examples=60)
@given(
    separator=st.sampled_from(",;\t"),
    decimal_comma=st.booleans(),
    told=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    count=st.integers(1, 5),
)
def test_a_table_reads_the_same_however_a_spreadsheet_saved_it(
    separator: str, decimal_comma: bool, told: bool, encoding: str, end: str, count: int
) -> None:
    point = "," if decimal_comma and separator != "," else "."
    text = (f"sep={separator}{end}" if told else "") + table(rows_of(count), separator, point, end)
    with TemporaryDirectory() as folder:
        output = output_folder(Path(folder))
        (output / "kernel_details.csv").write_bytes(text.encode(encoding))
        profile = open_profile(folder)
        expected = [(f"MatMul{i}", (BEGIN_US + 100 * i) * 1000 + 125, 50_125) for i in range(count)]
        assert kernel_times(profile) == expected
        kernels = profile.rank(0).kernels()
        assert kernels is not None
        assert set(kernels.input_shapes) == {"4096,1024;1024"}
        assert ("semicolons" in texts(profile)) == (separator == ";")
        assert ("separated by tabs" in texts(profile)) == (separator == "\t")
        assert "repaired" not in texts(profile)


def test_a_cut_utf_16_table_is_noted(tmp_path: Path) -> None:
    output = output_folder(tmp_path)
    (output / "kernel_details.csv").write_bytes(codecs.BOM_UTF16_LE + table(rows_of(3), "\t").encode("utf-16-le")[:-1])
    profile = open_profile(tmp_path)
    assert len(kernel_times(profile)) == 3
    assert "UTF-16" in texts(profile)


@pytest.mark.parametrize("dropped", ["Start Time(us)", "Duration(us)"])
def test_a_kernel_table_without_its_columns_is_named(tmp_path: Path, dropped: str) -> None:
    output = output_folder(tmp_path)
    (output / "kernel_details.csv").write_text(table(rows_of(3)).replace(dropped, "Elsewhere", 1))
    profile = open_profile(tmp_path)
    assert kernel_times(profile) == []
    assert "kernel_details.csv: no kernels read: no known column of" in texts(profile)


# The same data exported twice


@settings(max_examples=40)
@given(exports=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=4))
def test_what_several_exports_hold_is_counted_once(exports: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        output = output_folder(Path(folder))
        held: set[int] = set()
        for number, (first, count) in enumerate(exports):
            (output / f"op_summary_2025010100000{number}.csv").write_text(table(rows_of(count, first)))
            lines = [
                f"aten::mm{i},1024.0,{BEGIN_US + i}.000,{BEGIN_US + i + 5}.000" for i in range(first, first + count)
            ]
            header = "Name,Size(KB),Allocation Time(us),Release Time(us)"
            (output / f"operator_memory_2025010100000{number}.csv").write_text("\n".join((header, *lines, "")))
            samples = [f"PTA,{BEGIN_US + i}.000,{i}.0,20.0,NPU:0" for i in range(first, first + count)]
            header = "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Device Type"
            (output / f"memory_record_{number}.csv").write_text("\n".join((header, *samples, "")))
            held.update(range(first, first + count))
        profile = open_profile(folder)
        assert [name for name, _, _ in kernel_times(profile)] == [f"MatMul{i}" for i in sorted(held)]
        allocations = profile.rank(0).allocations()
        assert allocations is not None
        assert sorted(allocations.name) == sorted(f"aten::mm{i}" for i in held)
        curve = profile.rank(0).memory("PTA")
        assert curve is not None
        assert curve.allocated is not None
        assert (curve.allocated // (1 << 20)).tolist() == sorted(held)
        repeated = sum(count for _, count in exports) > len(held)
        assert ("are counted once" in texts(profile)) == repeated


# Databases


def write_database(path: Path, starts: list[int | None]) -> None:
    """Kernels of 50 us that start at so many ns."""
    with closing(sqlite3.connect(path)) as data, data:
        data.execute("CREATE TABLE STRING_IDS (id INTEGER, value TEXT)")
        data.execute("INSERT INTO STRING_IDS VALUES (1, 'MatMul'), (2, 'MatMulV2')")
        data.execute("CREATE TABLE COMPUTE_TASK_INFO (globalTaskId INTEGER, name INTEGER, opType INTEGER)")
        data.execute("CREATE TABLE TASK (globalTaskId INTEGER, startNs INTEGER, endNs INTEGER, streamId INTEGER)")
        for number, start in enumerate(starts):
            data.execute("INSERT INTO COMPUTE_TASK_INFO VALUES (?, 1, 2)", (number,))
            end = (BEGIN_US + 100 * number) * 1000 + 50_000
            data.execute("INSERT INTO TASK VALUES (?, ?, ?, 3)", (number, start, end))


@settings(max_examples=30)
@given(broken=st.lists(st.sampled_from([False, None, 0, -1]), min_size=1, max_size=8))
def test_tasks_of_a_database_without_a_start_are_left_out_and_noted(broken: list[int | bool | None]) -> None:
    with TemporaryDirectory() as folder:
        output = output_folder(Path(folder))
        whole = [(BEGIN_US + 100 * i) * 1000 if one is False else one for i, one in enumerate(broken)]
        write_database(output / "ascend_pytorch_profiler_0.db", whole)
        profile = open_profile(folder)
        kernels = kernel_times(profile)
        usable = sum(one is False for one in broken)
        assert [duration for _, _, duration in kernels] == [50_000] * usable
        assert ("without a usable start" in texts(profile)) == (usable < len(broken))


TRACE = json.dumps([{"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": BEGIN_US, "dur": 5}])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("memory_record.csv", "Component,Timestamp(us),Total Allocated(MB)\nPTA,1760000000000000.000,5.0\n"),
        ("trace_view.json", ""),
        ("trace_view.json", "[]"),
        ("trace_view.json", TRACE),
        ("trace_view.json", TRACE[:-3]),
        ("kernel_details.csv", ",".join(HEADERS) + "\n"),
        ("kernel_details.csv", table(rows_of(1))),
        ("task_time_20250101000000.csv", ""),
    ],
)
def test_a_scrap_of_text_does_not_hide_a_database(tmp_path: Path, name: str, content: str) -> None:
    output = output_folder(tmp_path)
    write_database(output / "ascend_pytorch_profiler_0.db", [(BEGIN_US + 100 * i) * 1000 for i in range(6)])
    (output / name).write_text(content)
    profile = open_profile(tmp_path)
    assert [duration for _, _, duration in kernel_times(profile)] == [50_000] * 6
    assert f"{name}: not read: the database" in texts(profile)


@pytest.mark.parametrize("content", [b"", b"no database"])
def test_text_is_read_beside_a_database_that_holds_nothing(tmp_path: Path, content: bytes) -> None:
    output = output_folder(tmp_path)
    (output / "ascend_pytorch_profiler_0.db").write_bytes(content)
    (output / "kernel_details.csv").write_text(table(rows_of(4)))
    profile = open_profile(tmp_path)
    assert len(kernel_times(profile)) == 4
    assert "ascend_pytorch_profiler_0.db: not read" in texts(profile)


def test_an_analysis_alone_gives_steps_and_links(tmp_path: Path) -> None:
    output = output_folder(tmp_path)
    with closing(sqlite3.connect(output / "analysis.db")) as data, data:
        data.execute(
            "CREATE TABLE StepTraceTime (step TEXT, computing REAL, communication_not_overlapped REAL, overlapped REAL,"
            " communication REAL, free REAL)"
        )
        data.execute("INSERT INTO StepTraceTime VALUES ('13', 400, 100, 0, 100, 50)")
        data.execute(
            "CREATE TABLE CommAnalyzerMatrix (hccl_op_name TEXT, group_name TEXT, src_rank TEXT, dst_rank TEXT,"
            " transport_type TEXT, transit_size REAL, transit_time REAL, bandwidth REAL, step TEXT, type TEXT)"
        )
        data.execute(
            "INSERT INTO CommAnalyzerMatrix VALUES ('allreduce', 'g', '0', '1', 'HCCS', 10, 1, 10, 'step13', 'c')"
        )
    rank = open_profile(tmp_path).rank(0)
    (step,) = rank.steps()
    assert (step.step, step.computing_ns, step.communication_ns, step.free_ns) == (13, 400_000, 100_000, 50_000)
    assert [(use.source, use.target) for use in rank.links()] == [(0, 1)]


# Ranks and sessions


STEPS = "Step,Computing,Communication(Not Overlapped),Overlapped,Communication,Free\n1,{},0,0,0,250\n"


def session(root: Path, name: str, computing: int, rank: int | None) -> None:
    output = root / name / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    info = "profiler_info.json" if rank is None else f"profiler_info_{rank}.json"
    (output.parent / info).write_text("{}")
    (output / "step_trace_time.csv").write_text(STEPS.format(computing))


@settings(max_examples=30)
@given(
    stamps=st.lists(st.integers(20250101000000000, 20250101235959999), min_size=2, max_size=4, unique=True),
    ranks=st.one_of(st.none(), st.integers(1, 3)),
    ending=st.sampled_from(["ascend_pt", "ascend_ms"]),
)
def test_the_newest_session_of_each_rank_is_read(stamps: list[int], ranks: int | None, ending: str) -> None:
    numbers = [None] if ranks is None else list(range(ranks))
    with TemporaryDirectory() as folder:
        for stamp in stamps:
            for rank in numbers:
                session(Path(folder), f"host_{70 + (rank or 0)}_{stamp}_{ending}", stamp % 1000 + 1, rank)
        profile = open_profile(folder)
        assert profile.ranks == list(range(len(numbers)))
        for rank in profile.ranks:
            assert [step.computing_ns for step in profile.rank(rank).steps()] == [(max(stamps) % 1000 + 1) * 1000]
        for stamp in stamps:
            assert f"_{stamp}_{ending}" in texts(profile), "each session is named"


def test_ranks_whose_folders_tell_no_time_stay_an_error(tmp_path: Path) -> None:
    session(tmp_path, "first/rank0_ascend_pt", 1, 0)
    session(tmp_path, "second/rank0_ascend_pt", 2, 0)
    with pytest.raises(InputError, match="two profiles of rank 0"):
        open_profile(tmp_path)


@pytest.mark.parametrize(("ending", "tool"), [("ascend_pt", "torch_npu"), ("ascend_ms", "mindspore")])
@pytest.mark.parametrize("raw", [False, True])
def test_a_rank_that_was_not_parsed_is_named(tmp_path: Path, ending: str, tool: str, raw: bool) -> None:
    session(tmp_path, f"h_0_20250101000000000_{ending}", 300, 0)
    unparsed = tmp_path / f"h_1_20250101000000001_{ending}"
    (unparsed / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
    if raw:
        (unparsed / "PROF_000001_20250101000000000_ABC/device_1/data").mkdir(parents=True)
    profile = open_profile(tmp_path)
    assert profile.ranks == [0]
    assert f"run {tool}.profiler.profiler.analyse('{unparsed.name}')" in texts(profile)
    notes = Notebook(tmp_path)
    summarise_ranks(tmp_path, workers=1, notes=notes)
    assert unparsed.name in "\n".join(f"{note.file}: {note.text}" for note in notes.notes)


def test_parsed_data_beside_an_empty_output_has_the_rank_of_the_framework(tmp_path: Path) -> None:
    for rank in (3, 5):
        folder = tmp_path / f"h_{rank}_20250101000000000_ascend_pt"
        (folder / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
        (folder / f"profiler_info_{rank}.json").write_text("{}")
        output = folder / "PROF_000001_20250101000000000_ABC/mindstudio_profiler_output"
        output.mkdir(parents=True)
        (output / "op_summary_20250101000000.csv").write_text(table(rows_of(rank)))
    profile = open_profile(tmp_path)
    assert profile.ranks == [3, 5]
    assert [len(profile.rank(rank).kernels() or ()) for rank in profile.ranks] == [3, 5]


def test_a_link_that_is_not_followed_is_named(tmp_path: Path) -> None:
    session(tmp_path / "here", "h_0_20250101000000000_ascend_pt", 300, 0)
    session(tmp_path / "there", "h_1_20250101000000000_ascend_pt", 300, 1)
    (tmp_path / "here/h_1_20250101000000000_ascend_pt").symlink_to(tmp_path / "there/h_1_20250101000000000_ascend_pt")
    (tmp_path / "here/h_2_20250101000000000_ascend_pt").symlink_to(tmp_path / "nowhere")
    profile = open_profile(tmp_path / "here")
    assert profile.ranks == [0]
    assert "h_1_20250101000000000_ascend_pt: not read: a link to a folder" in texts(profile)
    assert "h_2_20250101000000000_ascend_pt: not read: a link to nothing" in texts(profile)


def test_a_link_copied_as_text_is_named(tmp_path: Path) -> None:
    session(tmp_path, "h_0_20250101000000000_ascend_pt", 300, 0)
    names = "h_1_20250101000000000_ascend_pt", "h_2_20250101000000000_ascend_ms", "PROF_000001_20250101000000000_ABC"
    for name in names:
        (tmp_path / name).write_text(f"../elsewhere/{name}")
    profile = open_profile(tmp_path)
    assert profile.ranks == [0]
    noted = texts(profile)
    assert all(f"{name}: not read: is named like the folder of a rank but is a file" in noted for name in names)


@settings(max_examples=20)
@given(count=st.integers(3, 8), stray=st.sampled_from(["0.000", "123456.000", "7000000000000000.000"]))
def test_one_kernel_far_out_is_set_aside(count: int, stray: str) -> None:
    rows = rows_of(count)
    rows.append((*rows[0][:3], stray, *rows[0][4:]))
    with TemporaryDirectory() as folder:
        output = output_folder(Path(folder))
        (output / "kernel_details.csv").write_text(table(rows))
        profile = open_profile(folder)
        assert [name for name, _, _ in kernel_times(profile)] == [f"MatMul{i}" for i in range(count)]
        assert "1 kernels with a time far from all others set aside" in texts(profile)


def test_the_database_form_of_memscope_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "memscope_dump_20250101000000.db"
    write_database(path, [])
    with pytest.raises(InputError, match="database form of an msMemScope dump"):
        open_profile(path)
