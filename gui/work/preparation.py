"""
Compiled loops made before they are needed, so that the first document after an installation opens as later ones do.

Numba compiles a loop when it is first called and keeps it on disk. A process of its own does that on the bundled sample
while the user still looks for a file; in the window's process it would hold the interpreter's lock.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path

from PySide6.QtCore import QProcess

from memplan.core.errors import MemplanError
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.gui.settings import Settings

_NICE = 10


def prepared_as() -> str:
    """What compiled loops are kept for: another version of memplan, Numba or Python compiles them anew."""
    return " ".join((metadata.version("memplan"), metadata.version("numba"), sys.version.split()[0]))


def prepare_aside(settings: Settings) -> bool:
    """Compile in a process of its own what was never compiled for these versions; false where that was done."""
    wanted = prepared_as()
    if settings.prepared == wanted:
        return False
    settings.prepared = wanted
    process = QProcess()
    process.setProgram(sys.executable)
    process.setArguments(["-m", __name__])
    process.setStandardOutputFile(QProcess.nullDevice())
    process.setStandardErrorFile(QProcess.nullDevice())
    process.startDetached()  # where it can't start, the first document compiles what it needs
    return True


def prepare() -> None:
    """
    Do with the sample what a window does with documents, what comes first of all first.

    Paint; import a trace as large ones are; find blocks and costs; plan into less memory than the step needs.
    """
    DrawingLoops().load()
    samples = Path(str(resources.files("memplan.samples")))
    session = open_session(Request(samples / "llama_train.plan.json", samples / "llama_train_profile"))
    for track in session.tracks.all:
        session.tracks.load(track)
    _import_packed(samples / "llama_train_profile")
    session.find_blocks()
    session.diagnose()
    _plan_in_less(samples / "llama_train.mindir")


def _import_packed(profile: Path) -> None:
    """Read `profile` with its traces packed: those go through the scanner and the store, however small."""
    from memplan.traces import open_profile

    with tempfile.TemporaryDirectory(prefix="memplan-") as folder:
        packed = Path(folder) / profile.name
        shutil.copytree(profile, packed)
        for trace in packed.rglob("trace_view.json"):
            with gzip.open(f"{trace}.gz", "wb", compresslevel=1) as target:
                target.write(trace.read_bytes())
            trace.unlink()
        opened = open_profile(packed, cache=Path(folder) / "cache")
        for rank in opened.ranks:
            opened.rank(rank).timeline()


def _plan_in_less(graph: Path) -> None:
    from memplan import plan
    from memplan.schema import Tier

    whole = plan(graph).tier(Tier.HBM)
    if whole is not None:
        plan(graph, hbm=whole.peak * 3 // 4)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(_NICE)
    try:
        prepare()
    except (MemplanError, OSError) as error:
        raise SystemExit(str(error)) from error
