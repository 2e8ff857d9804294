"""Whether the compiled loops that draw are loaded, so that nothing on the screen waits for a compiler."""

from __future__ import annotations

import numpy as np

from memplan.core.progress import Progress, silent
from memplan.gui.model.event import Event


class DrawingLoops:
    """
    The compiled loops of all that is drawn pixel by pixel; what is not shown in a window finds them loaded.

    Of a window they are loaded by a worker after the first tracks were shown, which after an installation compiles them
    for seconds. Until then tracks are drawn by NumPy, and views of memory say that they are being read.
    """

    def __init__(self, *, loaded: bool = True) -> None:
        self.loaded = loaded
        self.changed = Event()

    def load(self, progress: Progress = silent) -> None:
        """Load every loop, and compile what was never compiled; for any thread, it changes nothing here."""
        from memplan.gui.model import raster
        from memplan.gui.model.timeline.lanes import build_lane

        one = np.ones(1, dtype=np.int64)
        for done, kind in enumerate((np.uint8, np.int32)):  # of few kinds and of many
            progress(done, 3, "views")
            build_lane(one, one, one.astype(kind), None)
        progress(2, 3, "views")
        raster.warm()

    def keep(self) -> None:
        """Draw with them from now on; for the thread that draws."""
        self.loaded = True
        self.changed.emit()
