"""
The weights that a checkpoint's files hold: bytes by what they belong to and how ranks divide them.

Read from the headers of safetensors files: eight bytes of length, then a JSON object of tensors with dtype, shape and
offsets (huggingface.co/docs/safetensors, "Format"). Tensors themselves are not read.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table

INDEX_FILE = "model.safetensors.index.json"
_MOST_HEADER = 100 * 10**6
"""The format's own limit of a header."""
_MOST_INDEX = 256 * 2**20


@dataclass(frozen=True, slots=True)
class StoredPart:
    """
    Bytes of all tensors of one layer (`None` outside the layers, `drafts` those of multi-token prediction) that belong
    to one `group` and are divided alike: by `width`, `row`, `kv` heads, `fused` heads of all three kinds, `vocabulary`,
    `expert`, or on every rank (`none`). `whole` bytes are scales and biases of rows that every rank has. `looked_up`
    is as that of `Weight`.
    """

    layer: int | None
    drafts: bool
    group: str
    split: str
    looked_up: bool
    nbytes: int
    whole: int


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """
    A checkpoint as its files say: its parts, how many `files` they were read from, tensors that no rule knows
    (`unknown`, taken to be on every rank) and the `total_bytes` that its index states, `None` without one.

    Where files are missing there are no parts, and `missing` says how many.
    """

    parts: tuple[StoredPart, ...]
    files: int
    missing: int
    unknown: int
    total_bytes: int | None


def read_stored_weights(folder: Path) -> StoredWeights | None:
    """
    The checkpoint in `folder`; `None` where there is neither an index nor a safetensors file.

    Raises `InputError` for an index or a header that can't be read.
    """
    names, total = _index(folder / INDEX_FILE)
    found = sorted(folder.glob("*.safetensors"))
    present = {path.name for path in found}
    wanted = sorted(names or present)
    if not wanted:
        return None
    missing = [name for name in wanted if name not in present]
    if missing:
        return StoredWeights((), 0, len(missing), 0, total)
    sums: dict[tuple[int | None, bool, str, str, bool], list[int]] = {}
    rules, unknown = _rules(), 0
    for name in wanted:
        for tensor, shape, size in _header(folder / name):
            layer, drafts, group, split, looked_up = rules.of(tensor)
            unknown += group == "other"
            held = sums.setdefault((layer, drafts, group, split, looked_up), [0, 0])
            # Of a matrix whose rows are kept whole, scales and biases are as many as rows.
            held[split == "row" and (len(shape) < 2 or shape[-1] == 1)] += size
    parts = tuple(StoredPart(*key, *held) for key, held in sums.items())
    return StoredWeights(parts, len(wanted), 0, unknown, total)


def _index(path: Path) -> tuple[set[str], int | None]:
    if not path.is_file():
        return set(), None
    try:
        if path.stat().st_size > _MOST_INDEX:
            raise InputError("this is too large for an index of tensors", path=path)
        document = json.loads(path.read_bytes())
        files = document["weight_map"].values()
        total = document.get("metadata", {}).get("total_size")
    except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError):
        raise InputError("this is no index of tensors: it has no weight_map", path=path) from None
    names = {name for name in files if isinstance(name, str) and Path(name).name == name}
    whole = isinstance(total, int | float) and not isinstance(total, bool) and 0 <= total < math.inf
    return names, int(total) if whole else None


def _header(path: Path) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name, shape and bytes of every tensor of a file."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= _MOST_HEADER:
                raise InputError("this is no safetensors file: its header has no length that can be", path=path)
            document = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        raise InputError("this is no safetensors file: its header can't be read", path=path) from None
    if not isinstance(document, Mapping):
        raise InputError("this is no safetensors file: its header holds no object", path=path)
    for name, entry in document.items():
        if name == "__metadata__":
            continue
        try:
            first, end = (int(offset) for offset in entry["data_offsets"])
            shape = tuple(int(size) for size in entry["shape"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError("its header describes a tensor without offsets", path=path, place=name) from None
        if not 0 <= first <= end:
            raise InputError("its header describes a tensor that ends before it begins", path=path, place=name)
        yield name, shape, end - first


@dataclass(frozen=True, slots=True)
class _NameRules:
    rows: tuple[tuple[re.Pattern[str], str, str, bool], ...]
    drafts: re.Pattern[str]
    layer: re.Pattern[str]

    def of(self, name: str) -> tuple[int | None, bool, str, str, bool]:
        """Layer, whether of the drafts, group, split and whether it is looked up, of the tensor called `name`."""
        place = self.layer.search(name)
        layer = None if place is None else int(place[3])
        drafts = self.drafts.search(name) is not None
        for pattern, group, split, looked_up in self.rows:
            if pattern.search(name):
                return None if group == "vision" else layer, drafts, group, split, looked_up
        return layer, drafts, "other", "none", False


def _rules() -> _NameRules:
    document: Mapping[str, Any] = table("memplan.models", "stored_tensors.json")
    rows = tuple(
        (re.compile(row["pattern"]), row["group"], row["split"], row.get("looked_up", False))
        for row in document["rules"]
    )
    return _NameRules(rows, re.compile(document["drafts"]), re.compile(document["layer"]))
