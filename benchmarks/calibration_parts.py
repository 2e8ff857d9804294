"""Claims that a calibration is fitted to, part by part: kept in files, to fit to the very same again, and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_claims import RawClaims

_SIDES = ("rows", "right")


def keep_parts(folder: Path, parts: Mapping[str, Sequence[RawClaims]]) -> None:
    """Write a file of each part into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, runs in parts.items():
        np.savez_compressed(folder / f"{name}.npz", **_columns(runs))


def kept_parts(folder: Path, names: Sequence[str]) -> dict[str, list[RawClaims]]:
    """The parts called `names` as `keep_parts` left them in `folder`."""
    return {name: _read(folder / f"{name}.npz") for name in names}


def parts_told(parts: Mapping[str, Sequence[RawClaims]]) -> dict[str, dict[str, object]]:
    """Of each part how many runs and kernels it has, and a digest of all that is said of them."""
    return {
        name: {"runs": len(runs), "kernels": sum(len(run.count) for run in runs), "digest": _digest(runs)}
        for name, runs in parts.items()
    }


def _columns(runs: Sequence[RawClaims]) -> dict[str, NDArray[Any]]:
    """All runs of a part one behind the other, with the kernels of each."""
    found: dict[str, NDArray[Any]] = {"kernels": np.array([len(run.count) for run in runs], dtype=np.int64)}
    if not runs:
        return found
    for side in _SIDES:
        for claim in getattr(runs[0], side):
            found[f"{side} {claim}"] = np.concatenate([getattr(run, side)[claim] for run in runs])
    found["count"] = np.concatenate([run.count for run in runs])
    found["weight"] = np.concatenate([run.weight for run in runs])
    return found


def _read(path: Path) -> list[RawClaims]:
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    ends = np.cumsum(columns.pop("kernels"))[:-1]
    cut = {name: np.split(column, ends) for name, column in columns.items()}

    def of(side: str, run: int) -> dict[str, NDArray[Any]]:
        return {name.partition(" ")[2]: cut[name][run] for name in cut if name.partition(" ")[0] == side}

    return [
        RawClaims(of("rows", run), of("right", run), cut["count"][run], cut["weight"][run])
        for run in range(len(cut.get("count", ())))
    ]


def _digest(runs: Sequence[RawClaims]) -> str:
    """Equal where all columns are equal to the bit."""
    found = hashlib.sha256()
    for name, column in sorted(_columns(runs).items()):
        found.update(f"{name} {column.dtype.str} {column.shape}".encode())
        found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()
