"""What the process holds, as areas on each other, and its one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.core.units import format_bytes
from memplan.gui.model.memory.process_stack import process_stack
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.process_view import ProcessView
from memplan.gui.window.main_window import MainWindow
from memplan.traces import open_profile
from memplan.traces.process_memory import ProcessPart, process_memory
from tests.gui.conftest import PLAN
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

MIB = 1024 * 1024


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A process of 1000 MiB and then 1200, whose allocator reserves 700 and whose collectives take 200."""
    begin = 1_767_225_600_000_000
    (tmp_path / "memory_record.csv").write_text(
        "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Total Active(MB),Stream Ptr,Device Type\n"
        + "".join(
            f"PTA,{begin + 10 * n}.000,{allocated},700,{allocated},0,NPU:0\n"
            for n, allocated in enumerate((300, 500, 650, 400, 100))
        )
        + "".join(f"APP,{begin + 20 * n}.000,,{total},,,NPU:0\n" for n, total in enumerate((1000, 1200, 1200)))
    )
    (tmp_path / "npu_module_mem.csv").write_text(
        "Device_id,Component,Timestamp(us),Total Reserved(MB),Device\n"
        + "".join(f"0,HCCL,{begin + 20 * n}.000,200,NPU:0\n" for n in range(3))
        + "".join(f"0,SLOG,{begin + 20 * n}.000,{30 + n},NPU:0\n" for n in range(3))
    )
    (tmp_path / "kernel_details.csv").write_text(
        "Name,Type,Accelerator Core,Start Time(us),Duration(us)\n" + f"MatMul1,MatMul,AI_CORE,{begin}.5,30\n"
    )
    return tmp_path


def test_the_areas_add_up_to_the_process_at_every_moment(held: Path) -> None:
    stack = process_stack(open_profile(held).rank(0))
    assert stack is not None
    total = np.sum([layer.values for layer in stack.layers], axis=0)
    assert total.tolist() == stack.process.values.tolist()
    assert all((layer.values >= 0).all() for layer in stack.layers)
    assert [layer.name for layer in stack.layers] == [
        "PTA in tensors", "PTA reserved beyond them", "HCCL", "SLOG", "not itemised",
    ]  # fmt: skip
    at = stack.layers[0].time_ns[2]
    assert [layer.at(int(at)) for layer in stack.layers] == [650 * MIB, 50 * MIB, 200 * MIB, 31 * MIB, 269 * MIB]
    assert stack.process.at(int(at)) == 1200 * MIB


def test_the_sentence_says_what_lies_outside(held: Path) -> None:
    rank = open_profile(held).rank(0)
    stack = process_stack(rank)
    found = process_memory({name: rank.memory(name) for name in rank.memory_components()})
    assert stack is not None
    assert found is not None
    text = str(stack.told)
    assert text.startswith(
        f"{format_bytes(found.gap)} of the process's {format_bytes(found.held)} lie outside of PTA: "
    )
    sizes = [item for item in found.items if item.part in (ProcessPart.MODULE, ProcessPart.REST)]
    for item in sizes:
        assert format_bytes(item.nbytes) in text


def test_at_the_peak_the_areas_are_the_items_of_real_profiles(shared_data: Path) -> None:
    for folder in ("qwen3-0.6b-train-4rank", "alexnet-ddp-2rank/text/level2/rank0_ascend_pt"):
        rank = open_profile(shared_data / "profiles" / folder)
        first = rank.rank(rank.ranks[0])
        stack = process_stack(first)
        found = process_memory({name: first.memory(name) for name in first.memory_components()})
        assert stack is not None
        assert found is not None
        for part in (ProcessPart.ALLOCATED, ProcessPart.CACHED, ProcessPart.MODULE, ProcessPart.REST):
            mine = sum(
                layer.at(found.time_ns) or 0
                for layer, kind in zip(stack.layers, stack.parts, strict=True)
                if kind is part
            )
            told = sum(item.nbytes for item in found.items if item.part is part)
            assert mine == pytest.approx(told, rel=0.02, abs=8 * MIB), (folder, part)


def test_the_legend_has_the_values_at_the_cursor(qtbot: QtBot, held: Path) -> None:
    window = MainWindow(open_session(Request(None, held)), background=False)
    qtbot.addWidget(window)
    window.resize(1280, 720)
    window.show()
    window.show_page("memory")
    window.docks.bring("process")
    settle()
    view = window.docks.view(ProcessView)
    without = view.grab().toImage()
    for x in (500, 600):
        QTest.mouseMove(window.timeline, QPoint(x, 50))
        settle()
    settle()
    assert window.session.viewport.cursor is not None
    assert view.grab().toImage() != without, "the mouse over the timeline is followed"
    names = [name for _, name in view._legend]
    assert names == ["the whole process", "not itemised", "SLOG", "HCCL", "PTA reserved beyond them", "PTA in tensors"]
    rows = view.sheet().rows
    assert len({row[0] for row in rows}) == 6
    window.close()


def test_what_is_missing_is_said(qtbot: QtBot) -> None:
    window = MainWindow(open_session(Request(PLAN)), background=False)
    qtbot.addWidget(window)
    window.show()
    window.show_page("memory")
    window.docks.bring("process")
    settle()
    assert window.docks.view(ProcessView).stack is None
    assert window.docks.view(ProcessView).sheet().rows == []
    assert isinstance(window.docks.view(CurveView), CurveView)
    window.close()
