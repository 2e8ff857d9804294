#!/usr/bin/env python3
"""
Runs two memplans on the same commands and lists every value they disagree about.

usage: tools/compare_outputs.py BASE NEW [--data FOLDER] [--samples FOLDER] [--only WORD] [--all]

BASE and NEW are `memplan` executables, such as those of two worktrees. Exit codes, what is printed (as JSON where a
command prints JSON) and every file written are compared, on the bundled samples and, with --data, on the configs and
profiles in FOLDER. Differences that are meant stand with their reasons in compare_outputs.json and are only counted.
Exits with 0 when nothing else differs.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
SAMPLES = TOP / "memplan" / "samples"
INTENDED = Path(__file__).with_suffix(".json")
_PROGRESS = re.compile(r" \d+/\d+$")
"""The end of a line that says how far a slow command is."""
SHOWN = 12
"""Differences of one command that are listed unless all are asked for."""

COMMANDS = {
    "plan": "plan {samples}/llama_train.mindir --json -o {out}/plan.json",
    "plan-4mib": "plan {samples}/llama_train.mindir --hbm 4MiB --json -o {out}/plan.json",
    "plan-2mib": "plan {samples}/llama_train.mindir --hbm 2MiB --json",
    "plan-910b4": "plan {samples}/llama_infer.mindir --chip 910B4 --json -o {out}/plan.json",
    "plan-910c": "plan {samples}/cnn.mindir --chip 910C --json -o {out}/plan.json",
    "plan-950": "plan {samples}/llama_train.mindir --chip 950PR_9589 --json -o {out}/plan.json",
    "show": "show {samples}/llama_train.plan.json --json",
    "graph-train": "graph {samples}/llama_train.mindir --json",
    "graph-infer": "graph {samples}/llama_infer.mindir --json --top 50",
    "graph-drawn": "graph {samples}/cnn.mindir --json --around 3 --dot {out}/g.dot --graphml {out}/g.graphml",
    "pack": "pack {inputs}/buffers.csv --work 20000 --json -o {out}/packed.csv --svg {out}/packed.svg",
    "pack-capacity": "pack {inputs}/buffers.csv --capacity 4096 --work 20000 --json",
    "import-ge": "import {inputs}/ge.log --json -o {out}/plan.json",
    "compare": "compare {samples}/llama_train.plan.json {samples}/llama_train_profile --json --curves {out}/curves.csv",
    "compare-strict": "compare {samples}/llama_train.plan.json {samples}/llama_train_profile --json --limit 1000",
    "compare-text": "compare {samples}/llama_train.plan.json {samples}/llama_train_profile",
    "profile": "profile {samples}/llama_train_profile --json --top 100",
    "ranks": "ranks {samples}/llama_train_profile --json --workers 1",
    "calibrate": "calibrate {samples}/llama_train_profile --json -o {out}/calibration.json",
    "export-csv": "export {samples}/llama_train.plan.json --to csv -o {out}/tables",
    "export-trace": "export {samples}/llama_train.plan.json --to chrome-trace -o {out}/trace.json",
    "simulate": "simulate {samples}/llama_train.plan.json {out}/run_ascend_pt --steps 2 --seed 3",
    "simulate-exact": "simulate {samples}/llama_train.plan.json {out}/run_ascend_pt --exact",
    "chips": "chips --json",
    "chip-910b3": "chips 910B3 --json",
    "chip-910b4": "chips 910B4 --json",
    "matmul": "op matmul --m 4096 --n 4096 --k 7168 --dtype bf16 --json",
    "matmul-910b4": "op matmul --m 64 --n 4096 --k 7168 --dtype int8 --nz --activation SwiGlu --chip 910B4 --json",
    "matmul-sweep": "op matmul --m 128 --n 4096 --k 512 --groups 8 --sweep m=16:4096 --json",
    "attention": "op attention --q-len 4096 --kv-len 4096 --heads 32 --kv-heads 8 --json",
    "attention-mla": "op attention --q-len 1 --kv-len 65536 --heads 128 --kv-heads 1 --head-dim 576 --mla --json",
    "kv": "kv {samples}/example_config.json --context 32768 --effects --json",
    "kv-layout": "kv {samples}/example_config.json --tp 2 --ep 4 --dp 2 --batch 8 --host-memory 64GiB --json",
    "fit": "fit {samples}/example_config.json --npus 16 --context 131072 --timed 2 --json",
    "fit-train": "fit {samples}/example_config.json --npus 16 --context 4096 --train --json",
    "step": "step {samples}/example_config.json --chip 910C --tp 2 --batch 8 --json -o {out}/plan.json",
    "step-prefill": "step {samples}/example_config.json --phase prefill --context 8192 --chip 910C --json",
    "train-memory": "train-memory {samples}/example_config.json --sequence 4096 --tp 2 --pp 2 --dp 4 --json",
    "not-a-graph": "plan {samples}/example_config.json",
    "unknown-chip": "chips nothing",
}
ON_CONFIGS = {
    "kv": "kv {file} --context 8192 --tp 8 --json",
    "step": "step {file} --tp 8 --ep 8 --batch 64 --json",
    "train-memory": "train-memory {file} --sequence 4096 --tp 8 --pp 4 --json",
}
ON_PROFILES = {"profile": "profile {file} --json", "ranks": "ranks {file} --json --workers 1"}

_GE_LINE = (
    "[INFO] GE(1,atc):2024-01-01 [graph_mem_assigner.cc:1] [IMAS]Set g name[op{n}] optype[Relu] output[0] "
    "offset to [{offset}] streamid[0] "
    "memtype[2] size[1024] realsize[1000] noalignsize[1000] life time begin[{n}] life time end[{end}] "
    "child[0:0:0:0:0] isref[0] batch[], block_type[x]\n"
)


def flattened(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Dotted key and value of every leaf of decoded JSON; an empty list or object is a leaf."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flattened(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from flattened(inner, f"{key}.{index}")
    else:
        yield key, value


def decoded(text: str, name: str) -> Iterator[tuple[str, object]]:
    """Leaves of a JSON text, otherwise its lines, with `name` before the keys."""
    try:
        yield from flattened(json.loads(text), f"{name}:")
    except ValueError:
        yield from ((f"{name}:line {number}", line) for number, line in enumerate(text.splitlines(), 1))


def run(memplan: Path, command: str, places: dict[str, str], home: Path) -> dict[str, object]:
    """Everything a command answers and writes, by key; the names of its folders are taken out."""
    with tempfile.TemporaryDirectory() as out:
        filled = [word.format(**places, out=out) for word in command.split(" ")]
        environment = {**os.environ, "XDG_CACHE_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": ""}
        answer = subprocess.run(  # noqa: S603 - the executables that the caller named
            [str(memplan), *filled], capture_output=True, text=True, cwd=out, env=environment, check=False
        )
        found: dict[str, object] = {"exit code": answer.returncode}
        found.update(decoded(answer.stdout.replace(out, "OUT"), "out"))
        said = [line for line in answer.stderr.replace(out, "OUT").splitlines() if not _PROGRESS.search(line)]
        found.update(decoded("\n".join(said), "err"))
        for path in sorted(Path(out).rglob("*")):
            if path.is_file():
                text = path.read_bytes().decode("utf-8", "replace").replace(out, "OUT")
                found.update(decoded(text, path.relative_to(out).as_posix()))
    return found


def differences(base: dict[str, object], new: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Key and description of every value that is not the same, missing ones included."""
    for key in [*base, *(key for key in new if key not in base)]:
        if key not in new:
            yield key, f"gone (was {base[key]!r})"
        elif key not in base:
            yield key, f"new: {new[key]!r}"
        elif base[key] != new[key] or type(base[key]) is not type(new[key]):
            yield key, f"{base[key]!r} -> {new[key]!r}"


def reason(name: str, key: str, intended: list[dict[str, str]]) -> str | None:
    """Why this difference is meant, if it is."""
    for entry in intended:
        if fnmatch.fnmatchcase(name, entry["command"]) and fnmatch.fnmatchcase(key, entry["key"]):
            return entry["reason"]
    return None


def cases(data: Path | None) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, command and extra places of every comparison."""
    yield from ((name, command, {}) for name, command in COMMANDS.items())
    if data is None:
        return
    for config in sorted((data / "configs").glob("*.json")):
        yield from ((f"{name} {config.stem}", command, {"file": str(config)}) for name, command in ON_CONFIGS.items())
    for folder in sorted(path for path in (data / "profiles").iterdir() if path.is_dir()):
        yield from ((f"{name} {folder.name}", command, {"file": str(folder)}) for name, command in ON_PROFILES.items())


def buffers() -> str:
    """Eighty buffers whose sizes and lifetimes follow from their number."""
    rows = (f"{n},{n % 37},{n % 37 + 1 + n * 7 % 11},{64 * (1 + n * n % 13)}" for n in range(80))
    return "\n".join(["id,lower,upper,size", *rows]) + "\n"


def ge_log() -> str:
    """The plan of a chain of ten ops that take turns in two blocks, as GE logs it."""
    return "".join(_GE_LINE.format(n=n, end=n + 1, offset=1024 * (n % 2)) for n in range(1, 11))


def main() -> int:
    """Run every command with both and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--data", type=Path, help="folder with configs/ and profiles/ of your own")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="the samples of BASE, where it can't read ours")
    parser.add_argument("--only", default="", help="only commands whose name holds this")
    parser.add_argument("--all", action="store_true", help=f"list all differences, not {SHOWN} a command")
    options = parser.parse_args()
    intended: list[dict[str, str]] = json.loads(INTENDED.read_text(encoding="utf-8"))["intended"]
    meant: Counter[str] = Counter()
    compared = unexpected = 0
    with tempfile.TemporaryDirectory() as work:
        inputs = Path(work, "inputs")
        inputs.mkdir()
        (inputs / "buffers.csv").write_text(buffers(), encoding="utf-8")
        (inputs / "ge.log").write_text(ge_log(), encoding="utf-8")
        for name, command, extra in cases(options.data):
            if options.only not in name:
                continue
            places = {"samples": str(options.samples.absolute()), "inputs": str(inputs), **extra}
            base, new = (
                run(getattr(options, side).absolute(), command, places, Path(work, side)) for side in ("base", "new")
            )
            compared += 1
            found = []
            for key, what in differences(base, new):
                why = reason(name, key, intended)
                if why is None:
                    found.append(f"  {key}: {what}")
                else:
                    meant[why] += 1
            unexpected += len(found)
            print(f"{name}: {len(base)} values, {len(found)} differ" + (":" if found else ""), flush=True)
            print("".join(f"{line[:400]}\n" for line in found[: None if options.all else SHOWN]), end="", flush=True)
    print(f"{compared} commands; {unexpected} values differ that should not")
    print("".join(f"  {count} as intended: {why}\n" for why, count in meant.items()), end="")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
