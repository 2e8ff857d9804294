"""
A large trace in the window: how long its import freezes the interface, and how soon it is painted when imported.

Usage: python -m benchmarks.gui_import [--megabytes 2000] [--work DIR] [--append benchmarks/gui.md]

The trace is made, imported into an empty cache while a timer ticks every 5 ms in the window that reads it, and then
opened again by fresh processes, timed from their start to the first paint of the timeline, whose page is asked for as
soon as the document is there (it opens on its overview).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from benchmarks.profile_files import write_trace

FIRST_PAINT = """
import sys
import time
from pathlib import Path
from PySide6.QtCore import QTimer
from memplan.gui.application import application
from memplan.gui.window.main_window import MainWindow
from memplan.gui.model.session.open_request import Request
qt = application()
window = MainWindow()
window.resize(1600, 1000)
window.show()
began = time.process_time()
window.opener.open_request(Request(*(Path(name) if name else None for name in sys.argv[1:])))
def painted():
    if window.session.document.empty:
        return
    window.show_page("timeline")
    tracks = window.session.tracks
    if any(tracks.loaded(track) for track in tracks.all):
        window.timeline.repaint()
        print(time.process_time() - began, time.time())
        qt.quit()
timer = QTimer()
timer.timeout.connect(painted)
timer.start(5)
qt.exec()
"""
"""A program that opens a plan and a profile, "" for none of them: processor time from the asking to the first paint of
a track, and the moment of that paint."""


def longest_gap(folder: Path) -> tuple[float, float]:
    """Seconds of the import, and the longest time between two ticks of the window's clock meanwhile."""
    from PySide6.QtCore import QTimer

    from memplan.gui.application import application
    from memplan.gui.model.session.open_request import Request
    from memplan.gui.window.main_window import MainWindow

    qt = application()
    window = MainWindow()
    window.show()
    qt.processEvents()
    last, worst = time.perf_counter(), 0.0

    def tick() -> None:
        nonlocal last, worst
        now = time.perf_counter()
        worst, last = max(worst, now - last), now

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(5)
    began = last = time.perf_counter()
    window.opener.open_request(Request(profile=folder))
    while window.session.document.empty or window.jobs.running:
        qt.processEvents()
    taken = time.perf_counter() - began
    window.close()
    return taken, worst


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--append", type=Path, help="add the figures to this table of results")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        os.environ["MEMPLAN_CACHE_DIR"] = str(work / "cache")
        folder = work / "rank_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
        folder.mkdir(parents=True)
        write_trace(folder / "trace_view.json", options.megabytes * 1_000_000)
        taken, worst = longest_gap(folder.parent)
        paints = []
        for _ in range(4):
            began = time.time()
            run = [sys.executable, "-c", FIRST_PAINT, "", str(folder.parent)]
            told = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout
            paints.append(float(told.split()[-1]) - began)
        rows = [
            (f"{options.megabytes} MB trace imported in", f"{taken:.1f} s", ""),
            ("longest that the window stood still meanwhile", f"{worst * 1e3:.0f} ms", "100 ms"),
            ("once imported: start of the program to the first paint of its tracks, median of 3",
             f"{statistics.median(paints[1:]):.2f} s", "1.5 s"),
        ]  # fmt: skip
        for name, value, goal in rows:
            print(f"{name:70} {value:>10}  {goal}")
        if options.append is not None:
            lines = [f"| {name} | {value} | {goal} |" for name, value, goal in rows]
            text = "\nBy `python -m benchmarks.gui_import --append benchmarks/gui.md`, in wall time:\n\n"
            head = "| what | measured | goal |\n|---|---|---|\n"
            with options.append.open("a", encoding="utf-8") as file:
                file.write(text + head + "\n".join(lines) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
