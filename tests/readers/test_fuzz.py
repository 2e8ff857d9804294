"""Damaged files give a valid graph or one clear error, within a gigabyte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_500_mutants_of_real_files_are_read_or_refused() -> None:
    script = Path(__file__).with_name("fuzz_graphs.py")
    done = subprocess.run([sys.executable, str(script), "500"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("500 mutants")
