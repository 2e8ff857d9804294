"""
Compiled loops made before they are needed, so that the first document after an installation opens as later ones do.

Numba compiles a loop when it is first called and keeps it on disk. A process of its own does that on the bundled sample
while the user still looks for a file; in the window's process it would hold the interpreter's lock.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata, resources
from pathlib import Path

from PySide6.QtCore import QProcess

from memplan.core.errors import MemplanError
from memplan.gui.model.session.open_request import Request, open_session
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
    """Do with the sample what a window does with the first document: read, compare, lay out every track, diagnose."""
    samples = Path(str(resources.files("memplan.samples")))
    session = open_session(Request(samples / "llama_train.plan.json", samples / "llama_train_profile"))
    for track in session.tracks.all:
        session.tracks.load(track)
    session.diagnose()


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(_NICE)
    try:
        prepare()
    except (MemplanError, OSError) as error:
        raise SystemExit(str(error)) from error
