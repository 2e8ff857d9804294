"""
CPU seconds of the commands that plan what is served, over published configs: the slowest of each.

`python benchmarks/commands.py CONFIGS [CONFIG...]` prints the table of README.md: of the published configs in a folder
those named, ten otherwise. A command is a process of its own, imports included.
Plans that have to look for what moves to the host are searches, and have rows of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

USUAL = 10
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "kv": ("kv", "{}", "--chip", "910C", "--tp", "8", "--context", "32768"),
    "kv --effects": ("kv", "{}", "--chip", "910C", "--tp", "8", "--context", "32768", "--effects"),
    "kv --against": ("kv", "{}", "--chip", "910C", "--tp", "8", "--context", "32768", "--against", "vllm-0.33.0-h100"),
    "kv --export": ("kv", "{}", "--chip", "910C", "--tp", "8", "--context", "32768", "--export", "vllm-ascend"),
    "step": ("step", "{}", "--chip", "910C", "--tp", "8", "--batch", "16", "--context", "8192"),
    "plan --phase decode": ("plan", "{}", "--chip", "910C", "--tp", "8", "--phase", "decode"),
    "plan --phase prefill": ("plan", "{}", "--chip", "910C", "--tp", "8", "--phase", "prefill"),
    "plan --phase train": ("plan", "{}", "--chip", "910C", "--tp", "8", "--pp", "16", "--phase", "train"),
    "plan --phase decode --quick": ("plan", "{}", "--chip", "910C", "--tp", "8", "--phase", "decode", "--quick"),
    "plan --phase prefill --quick": ("plan", "{}", "--chip", "910C", "--tp", "8", "--phase", "prefill", "--quick"),
    "train-memory": ("train-memory", "{}", "--chip", "910C", "--tp", "8", "--pp", "4", "--sequence", "4096"),
    "fit": ("fit", "{}", "--chip", "910C", "--npus", "64", "--context", "32768"),
    "fit --ttft --tpot": (
        "fit", "{}", "--chip", "910C", "--npus", "16", "--context", "32768", "--ttft", "2s", "--tpot", "50ms",
        "--rate", "1", "--input-length", "2048", "--output-length", "256",
    ),
}  # fmt: skip


def cpu_seconds(words: Sequence[str]) -> tuple[float, bool]:
    """CPU seconds of `memplan` with `words`, whatever it answers, and whether it had to look for moves."""
    before = os.times()
    run = subprocess.run([sys.executable, "-m", "memplan", *words], capture_output=True, text=True, check=False)
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    return taken, "moved to the host" in run.stdout


def main() -> None:
    """Print a row for each command: the slowest config, its seconds, the median."""
    folder, *names = map(Path, sys.argv[1:])
    found = sorted(folder.glob("*.json"))
    chosen = [folder / name for name in names] or found[:: max(1, len(found) // USUAL)][:USUAL]
    print("| command | configs | median | slowest | of |\n|---|---|---|---|---|")
    for name, words in COMMANDS.items():
        rows: dict[bool, list[tuple[float, str]]] = {False: [], True: []}
        for path in chosen:
            seconds, moves = cpu_seconds([word.format(path) for word in words])
            rows[moves].append((seconds, path.stem))
        for moves, times in rows.items():
            if not times:
                continue
            times.sort()
            middle = times[len(times) // 2][0]
            most, slowest = times[-1]
            remark = ", with moves" if moves else ""
            print(f"| `{name}`{remark} | {len(times)} | {middle:.2f} s | {most:.2f} s | {slowest} |", flush=True)


if __name__ == "__main__":
    main()
