"""
How soon the first tracks of a document are there when nothing of memplan was ever compiled on the machine.

Usage: python -m benchmarks.gui_first_open [PROFILE...]

Opens the bundled plan and profile, and each PROFILE, in a process of its own with empty caches: before anything is
compiled, and while the window's preparation compiles. In processor time of the whole process, from the asking to the
first paint of a track.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from benchmarks.gui_import import FIRST_PAINT

_SAMPLES = Path(str(resources.files("memplan.samples")))
_PREPARATION = [sys.executable, "-m", "memplan.gui.work.preparation"]
_COMPILING_S = 4.0


def first_paint(opened: tuple[str, str], environment: dict[str, str]) -> float:
    """Seconds of processor time from the asking for a plan and a profile to the first paint of a track."""
    command = [sys.executable, "-c", FIRST_PAINT, *opened]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=environment)
    return float(run.stdout.split()[0])


def caches(folder: Path) -> dict[str, str]:
    """The environment of programs that keep nothing but in `folder`."""
    return os.environ | {"NUMBA_CACHE_DIR": str(folder / "compiled"), "MEMPLAN_CACHE_DIR": str(folder / "cache")}


def before(opened: tuple[str, str]) -> tuple[float, float]:
    """`first_paint` with nothing compiled, and while it is compiled."""
    with tempfile.TemporaryDirectory() as nothing, tempfile.TemporaryDirectory() as some:
        environment = caches(Path(some))
        preparation = subprocess.Popen(_PREPARATION, env=environment)
        try:
            time.sleep(_COMPILING_S)
            meanwhile = first_paint(opened, environment)
        finally:
            preparation.terminate()
            preparation.wait()
        return first_paint(opened, caches(Path(nothing))), meanwhile


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="*", type=Path)
    options = parser.parse_args()
    plan, profile = str(_SAMPLES / "llama_train.plan.json"), str(_SAMPLES / "llama_train_profile")
    documents = {"a plan": (plan, ""), "a profile": ("", profile), "both": (plan, profile)}
    documents |= {path.name: ("", str(path)) for path in options.profiles}
    print("| what is opened | nothing compiled | while it is compiled |\n|---|---|---|")
    for name, opened in documents.items():
        print(f"| {name} | {' | '.join(f'{seconds:.2f} s' for seconds in before(opened))} |", flush=True)


if __name__ == "__main__":
    main()
