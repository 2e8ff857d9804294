"""
Reads pickles that hold nothing but lists, dicts, tuples, text and numbers.

Python's own `pickle` runs whatever code a file names, and allocates whatever it asks for. So every opcode is looked at
before one is obeyed: none that makes an object of a class or calls a function may be there, what is built is counted,
and the rest is left to an `Unpickler` that refuses to find any class.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence

_MOST_BYTES = 1 << 30
_BYTES_A_CONTAINER = 8  # a real snapshot has one list or dict for every 30 bytes or more
_HARMLESS = 100_000
_MOST_NESTED_TUPLES = 100  # Python hashes the tuples in a key by recursion, without a limit of its own
_MOST_WAITING = 1 << 20  # picklers hand over a thousand at a time
_SCALARS = frozenset(
    {
        "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
        "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES",
    }
)  # fmt: skip
_LONGEST_LINE = 40  # digits of a number that is written as a line of text
_MARK = -1


class _UnsafeError(Exception):
    """An opcode that plain data never needs."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise _UnsafeError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _UnsafeError(str(pid))


class _Shared(io.BytesIO):
    """
    A file whose reads are Python's own calls: between two of them other threads come to their turn.

    The unpickler holds the interpreter's lock for as long as it reads from memory, a second for 100 MB.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size)


def load_plain(path: Path) -> Any:
    """
    The plain data pickled in the file at `path`.

    Raises `InputError` where it is damaged, too large, or holds anything but plain data.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError("is too large for a snapshot", path=path, remedy="snapshots up to 1 GiB are read")
        data = path.read_bytes()
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None
    look = _Look(len(data) // _BYTES_A_CONTAINER + _HARMLESS)
    try:
        for opcode, argument, at in pickletools.genops(data):
            look.at = at or 0
            look.step(opcode.name, argument)
        look.forget()
        return _PlainUnpickler(_Shared(data)).load()
    except _UnsafeError as error:
        raise InputError("holds more than plain data ({}) and is not opened", error, path=path,
                         place=Sentence("byte {}", (look.at,))) from None  # fmt: skip
    except (pickle.UnpicklingError, EOFError, IndexError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise InputError(
            "is a damaged pickle ({})", type(error).__name__, path=path, place=Sentence("byte {}", (look.at,))
        ) from None


class _Look:
    """
    What becomes of a pickle's stack, as far as its limits need it: of each item how deep tuples nest in it.

    Lists and dicts count as flat: they are no keys, and neither are tuples that hold them.
    """

    def __init__(self, containers: int) -> None:
        self.at = 0
        self._left = containers
        self._stack: list[int] = []
        self._memo: list[int] = []

    def step(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        if opcode in _SCALARS:
            if opcode in ("INT", "LONG") and abs(argument) >= 10**_LONGEST_LINE:
                raise ValueError("giant number")
            stack.append(0)
            if len(stack) > _MOST_WAITING:
                raise ValueError("too many values that belong to nothing yet")
        elif opcode in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            self._build(0)
        elif opcode in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            place = len(self._memo) if argument is None else int(argument)
            if place > len(self._memo):
                raise ValueError("a place in the memo out of turn")  # its memory is allocated up to there
            self._memo[place : place + 1] = stack[-1:]
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif opcode == "MARK":
            stack.append(_MARK)
        elif opcode in ("APPEND", "SETITEM", "POP"):
            del stack[-2 if opcode == "SETITEM" else -1 :]
        elif opcode in ("APPENDS", "SETITEMS"):
            self._since_mark()
        elif opcode in ("LIST", "TUPLE"):
            items = self._since_mark()
            self._build(1 + max(items, default=0) if opcode == "TUPLE" else 0)
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = stack[-int(opcode[-1]) :]
            del stack[-int(opcode[-1]) :]
            self._build(1 + max(items, default=0))
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise _UnsafeError(f"opcode {opcode}")

    def forget(self) -> None:
        """Let go of the stack and the memo: all has been seen."""
        self._stack, self._memo = [], []

    def _since_mark(self) -> list[int]:
        place = len(self._stack) - 1
        while self._stack[place] != _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _build(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many containers")
        if depth > _MOST_NESTED_TUPLES:
            raise ValueError("tuples too deep in one another")
        self._stack.append(depth)
