"""On-chip buffers of single kernels: files of Triton-Ascend and TileLang read back, judged, and cut until they fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.cli import main
from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.placement.kernel_fit import kernel_fit
from memplan.readers.kernels.kernel_file import read_kernel_memory
from memplan.readers.kernels.kernel_memory import KernelBuffer, KernelMemory, KernelScope
from memplan.readers.kernels.memory_info import memory_info

OVERFLOW = "overflow, requires {} bits while {} bits available! (possible reason: tiling basic block is too large)"


def entry(
    name: str,
    shape: tuple[int, ...],
    life: tuple[int, int],
    offsets: tuple[int, ...] = (0,),
    line: int = 7,
    **more: Any,
) -> dict[str, Any]:
    """A buffer of 32-bit numbers as BiShengIR writes it."""
    elements = 1
    for size in shape:
        elements *= size
    sizes = "".join(f"{size}x" for size in shape)
    return {
        "buffer": f"%{name} = memref.alloc() : memref<{sizes}f32, #hivm.address_space<ub>>",
        "offset": list(offsets), "extent": elements * 32, "alloc_time_in_ir": life[0], "life_time_in_ir": list(life),
        "source_location": f'loc("/home/user/kernel.py":{line}:8)', "is_tmpbuf": False, **more,
    }  # fmt: skip


def saved(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"Header": {"KernelName": "add_kernel"}, "Record": list(records)}))
    return path


def scope(*buffers: dict[str, Any], status: str = "success", error: str = "", name: str = "ub") -> dict[str, Any]:
    return {"scope": name, "status": status, "error_info": error, "memory_info_array": list(buffers)}


def test_an_overflow_names_buffers_lines_and_the_tile_that_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(
        tmp_path / "memory_info_aiv.json",
        scope(
            entry("a", (128, 256), (3, 20), line=12), entry("b", (128, 256), (5, 20), (0, 0), line=13),
            entry("late", (256,), (30, 40), line=30, is_tmpbuf=True),
            status="fail", error="ub " + OVERFLOW.format(3 * 128 * 256 * 32, 1572864),
        ),
    )  # fmt: skip
    assert main(["kernel", str(path)]) == 1
    text = capsys.readouterr().out
    assert "add_kernel" in text
    assert "192.0 KiB too much" in text
    assert "/home/user/kernel.py:12" in text
    assert "/home/user/kernel.py:13" in text
    assert ":30" not in text
    assert "%b alone, all copies, has 256.0 KiB of 192.0 KiB" in text
    assert "128 in place of 256 in 3 buffers: 192.0 KiB" in text


def test_double_buffers_are_the_first_thing_to_give_up(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.json", scope(entry("a", (64, 512), (0, 9), (0, 131072)), name="ub"))
    (fit,) = kernel_fit(read_kernel_memory(path), chip("910B3"))
    assert (fit.fits, fit.bound) == (False, 2 * 64 * 512 * 4)
    assert fit.cuts[0].before is None
    assert fit.cuts[0].peak == 64 * 512 * 4


def test_buffers_that_meet_in_a_tick_may_lie_over_one_another(tmp_path: Path) -> None:
    half = (24000,)
    path = saved(
        tmp_path / "m.json",
        scope(entry("a", half, (0, 5)), entry("b", half, (5, 9)), entry("c", half, (0, 9), (96000,))),
    )
    (fit,) = kernel_fit(read_kernel_memory(path), chip("910B3"))
    assert fit.fits is None
    assert fit.bound == 2 * 96000
    assert fit.packed == 3 * 96000
    assert fit.sharing == 0
    path = saved(tmp_path / "n.json", scope(entry("a", half, (0, 6)), entry("b", half, (5, 9))))
    (fit,) = kernel_fit(read_kernel_memory(path), chip("910B3"))
    assert fit.sharing == 1


def test_a_placement_the_compiler_missed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(
        tmp_path / "m.json",
        scope(entry("a", (512,), (0, 5)), status="fail", error="ub " + OVERFLOW.format(9_000_000, 1572864)),
    )
    assert main(["kernel", str(path)]) == 1
    assert "fits; the compiler found no placement" in capsys.readouterr().out


@pytest.mark.parametrize("listed_twice", [False, True])
def test_files_without_memories_take_them_from_the_types(tmp_path: Path, listed_twice: bool) -> None:
    one = entry("x", (100,), (2, 4), (32, 432))
    one["extent"] = 400  # bytes, as older files have them
    path = saved(tmp_path / "m.json", *([one] * (1 + listed_twice)))
    memory = read_kernel_memory(path)
    (found,) = memory.scopes
    assert found.name == "UB"
    assert found.buffers == (KernelBuffer("%x", 400, 2, 4, 2, (32, 432), "/home/user/kernel.py:7", False, (100,)),)
    assert bool(memory.notes) == listed_twice


@pytest.mark.parametrize("spelling", ["available", "avaliable"])
def test_a_log_of_an_overflow_alone(tmp_path: Path, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = 'E loc("/tmp/k/kernel.ttadapter.mlir":3:3): error: {} overflow, requires {} bits while {} bits {}!\n'
    log = tmp_path / "log.txt"
    log.write_text(
        "noise\n" + line.format("ub", 3072256, 1572864, spelling) + line.format("ub", 2031872, 1572864, spelling)
        + line.format("cbuf", 8388608, 4194304, spelling)
    )  # fmt: skip
    assert main(["kernel", str(log)]) == 1
    text = capsys.readouterr().out
    assert "248.0 KiB" in text
    assert "192.0 KiB" in text
    assert "56.03 KiB too much" in text
    assert "kernel.ttadapter.mlir:3" in text
    assert "memory_info" in text
    assert "L1" in text
    assert "512.0 KiB too much" in text


def test_tilelangs_planner(tmp_path: Path) -> None:
    log = tmp_path / "tilelang.log"
    log.write_text(
        "Found NPU memory allocation: a_ub scope=shared size=65536 bytes\n"
        "Found NPU memory allocation: b_ub scope=shared size=65536 bytes\n"
        "Found NPU memory allocation: c_l1 scope=shared.dyn size=1024 bytes\n"
        "[12:00:00] planning.cc:1: Planning memory for scope: shared\n"
        "[12:00:00] planning.cc:1: Buffer a_ub: [1, 4], size=65536\n"
        "[12:00:00] planning.cc:1: Buffer b_ub: [6, 9], size=65536\n"
        "[12:00:00] planning.cc:1: Allocated buffer a_ub at offset 0 (size=65536)\n"
        "[12:00:00] planning.cc:1: Allocated buffer b_ub at offset 65536 (size=65536)\n"
        "[12:00:00] planning.cc:1: Scope shared memory usage: 131072/196352 bytes (66.75%)\n"
    )
    fits = {fit.scope.name: fit for fit in kernel_fit(read_kernel_memory(log), chip("910B3"))}
    upper = fits["UB"]
    assert (upper.capacity, upper.planned, upper.bound, upper.packed, upper.fits) == (
        196352,
        131072,
        65536,
        65536,
        True,
    )
    assert fits["L1"].bound == 1024


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing of the kind\n", "tells of no buffers"),
        ("{", "is no JSON"),
        ('{"Record": 3}', "no list of records"),
        ('{"Record": [{"memory_info_array": [{"extent": -1}]}]}', "record 0, buffer 0: extent -1"),
        ('{"Record": [{"memory_info_array": [{"extent": 8, "life_time_in_ir": [4]}]}]}', "no lifetime"),
        ('{"Record": [{"memory_info_array": [{"extent": 8, "life_time_in_ir": [4, 2]}]}]}', "ends at tick 2"),
        ('{"Record": [{"memory_info_array": [5]}]}', "is no buffer"),
        ('{"Record": ["x"]}', "is no record"),
        ('{"Record": [{"buffer": "memref<' + "9" * 5000 + 'xf32>", "extent": -1}]}', "extent -1"),
    ],
)
def test_other_files_are_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_kernel_memory(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


lives = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted)
buffers = st.lists(st.tuples(lives, st.integers(1, 1 << 15), st.integers(1, 3)), min_size=1, max_size=8)


@given(buffers, st.integers(1 << 10, 1 << 17))
def test_bounds_hold_and_cuts_fit(made: list[tuple[list[int], int, int]], capacity: int) -> None:
    memory = KernelMemory("made", None, (KernelScope("UB", tuple(
        KernelBuffer(f"b{number}", elements * 32, life[0], life[1], copies, shape=(elements, 8))
        for number, (life, elements, copies) in enumerate(made)
    ), available=capacity),))  # fmt: skip
    (fit,) = kernel_fit(memory, chip("910B3"))

    def alive(closed: bool, single: bool = False) -> int:
        ticks = range(32)
        return max(
            sum(32 * elements * (1 if single else copies) for life, elements, copies in made
                if life[0] <= tick < max(life[1] + closed, life[0] + 1))
            for tick in ticks
        )  # fmt: skip

    assert fit.bound == alive(closed=False)
    assert fit.packed is not None
    assert fit.packed >= alive(closed=True) >= fit.bound
    assert all(cut.peak <= capacity for cut in fit.cuts)
    if any(cut.before is None for cut in fit.cuts):
        assert alive(closed=True, single=True) <= capacity
    assert fit.fits is (True if fit.packed <= capacity else None if fit.bound <= capacity else False)


@given(
    st.lists(
        st.tuples(lives, st.integers(1, 4096), st.lists(st.integers(0, 1 << 20), min_size=1, max_size=3)), max_size=6
    )
)
def test_what_is_written_is_read(made: list[tuple[list[int], int, list[int]]]) -> None:
    listed = [
        entry(f"b{number}", (size,), (life[0], life[1]), tuple(offsets), line=number + 1)
        for number, (life, size, offsets) in enumerate(made)
    ]
    (found,) = memory_info(json.dumps({"Record": [scope(*listed)]}).encode(), "m.json").scopes
    assert [(b.start, b.end, b.size, b.offsets) for b in found.buffers] == [
        (life[0], life[1], 4 * size, tuple(offsets)) for life, size, offsets in made
    ]
