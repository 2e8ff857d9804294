"""Long columns of text with few distinct values: numbers into a short list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Union, overload

import numpy as np
from numpy.typing import NDArray

_ROWS = 1 << 16

RowIndex = Union[NDArray[np.int64], slice]  # noqa: UP007  (evaluated, and Python 3.10 knows no slice | ...)


class DictionaryArray(Sequence[str]):
    """A column of strings, `values[codes[row]]`; what a few million rows of op names need to be."""

    def __init__(self, codes: NDArray[np.int32], values: Sequence[str]) -> None:
        self.codes = codes
        self.values = values

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: RowIndex) -> DictionaryArray: ...
    def __getitem__(self, index: int | RowIndex) -> str | DictionaryArray:
        if isinstance(index, slice | np.ndarray):
            return DictionaryArray(self.codes[index], self.values)
        return str(self.values[self.codes[index]])

    def __iter__(self) -> Iterator[str]:
        values = list(self.values)
        return (values[code] for code in self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]  # as lists, these have no hash


def dictionary_encoded(texts: Sequence[str]) -> DictionaryArray:
    """`texts` as numbers into a list of its distinct values."""
    if isinstance(texts, DictionaryArray):
        return texts
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    codes = np.empty(len(texts), dtype=np.int32)
    for begin in range(0, len(texts), _ROWS):  # a piece at a time: each holds the interpreter's lock
        piece = texts[begin : begin + _ROWS]
        codes[begin : begin + len(piece)] = np.fromiter(map(index.__getitem__, piece), np.int32, len(piece))
    return DictionaryArray(codes, list(index))


def take_rows(texts: Sequence[str], rows: RowIndex) -> Sequence[str]:
    """`texts` at `rows`."""
    if isinstance(texts, DictionaryArray):
        return DictionaryArray(texts.codes[rows], texts.values)
    if isinstance(rows, slice):
        return texts[rows]
    return [texts[row] for row in rows.tolist()]


def concatenate_texts(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """Columns one after the other."""
    if not any(isinstance(part, DictionaryArray) for part in parts):
        return [text for part in parts for text in part]
    index: dict[str, int] = {}
    codes = []
    for part in map(dictionary_encoded, parts):
        numbers = np.array([index.setdefault(text, len(index)) for text in part.values], dtype=np.int32)
        codes.append(numbers[part.codes] if len(part.codes) else part.codes)
    return DictionaryArray(np.concatenate(codes), list(index))
