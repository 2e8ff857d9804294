"""
Reads pickles that hold nothing but lists, dicts, tuples, text and numbers.

Python's own `pickle` runs whatever code a file names, and allocates whatever it asks for. This one knows no opcode
that makes an object of a class or calls a function, and counts what is built.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError

_MOST_BYTES = 1 << 30
_BYTES_A_CONTAINER = 8  # a real snapshot has one list or dict for every 30 bytes or more
_HARMLESS = 100_000
_MARK = object()


class _UnsafeError(Exception):
    """An opcode that plain data never needs."""


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
        raise InputError(f"can't be read: {error.strerror}", path=path) from None
    machine = _Machine(data)
    try:
        return machine.run()
    except _UnsafeError as error:
        raise InputError(f"holds more than plain data ({error}) and is not opened", path=path,
                         place=f"byte {machine.at}") from None  # fmt: skip
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise InputError(
            f"is a damaged pickle ({type(error).__name__})", path=path, place=f"byte {machine.at}"
        ) from None


class _Machine:
    """The stack machine of pickles, as far as plain data needs it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = len(data) // _BYTES_A_CONTAINER + _HARMLESS

    def run(self) -> Any:
        steps = {code: getattr(self, name) for code, name in _STEPS.items()}
        data = self.data
        while True:
            code = data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                return self.stack[-1]
            step = steps.get(code)
            if step is None:
                raise _UnsafeError(f"opcode {code:#04x}")
            step()

    def _take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError("truncated")
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def _container(self, value: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("too many containers")
        self.stack.append(value)

    def _since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def skip_protocol(self) -> None:
        self._take(1)

    def skip_frame(self) -> None:
        self._take(8)

    def mark(self) -> None:
        self.stack.append(_MARK)

    def pop(self) -> None:
        self.stack.pop()

    def none(self) -> None:
        self.stack.append(None)

    def true(self) -> None:
        self.stack.append(True)

    def false(self) -> None:
        self.stack.append(False)

    def empty_list(self) -> None:
        self._container([])

    def empty_dict(self) -> None:
        self._container({})

    def empty_tuple(self) -> None:
        self._container(())

    def tuple_1(self) -> None:
        self._tuple(1)

    def tuple_2(self) -> None:
        self._tuple(2)

    def tuple_3(self) -> None:
        self._tuple(3)

    def _tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise ValueError("empty stack")
        items = tuple(self.stack[-size:])
        del self.stack[-size:]
        self._container(items)

    def tuple_marked(self) -> None:
        self._container(tuple(self._since_mark()))

    def list_marked(self) -> None:
        self._container(self._since_mark())

    def append(self) -> None:
        item = self.stack.pop()
        _checked(self.stack[-1], list).append(item)

    def appends(self) -> None:
        items = self._since_mark()
        _checked(self.stack[-1], list).extend(items)

    def setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _checked(self.stack[-1], dict)[key] = value

    def setitems(self) -> None:
        items = self._since_mark()
        _checked(self.stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))

    def int_1(self) -> None:
        self.stack.append(self._number(1))

    def int_2(self) -> None:
        self.stack.append(self._number(2))

    def int_4(self) -> None:
        self.stack.append(int.from_bytes(self._take(4), "little", signed=True))

    def long_1(self) -> None:
        self.stack.append(int.from_bytes(self._take(self._number(1)), "little", signed=True))

    def int_line(self) -> None:
        line = self._line()
        self.stack.append({b"01": True, b"00": False}.get(line) if line in (b"01", b"00") else self._decimal(line))

    def long_line(self) -> None:
        self.stack.append(self._decimal(self._line().rstrip(b"L")))

    @staticmethod
    def _decimal(line: bytes) -> int:
        if len(line) > 40:
            raise ValueError("giant number")
        return int(line)

    def float_8(self) -> None:
        self.stack.append(struct.unpack(">d", self._take(8))[0])

    def text_1(self) -> None:
        self.stack.append(self._take(self._number(1)).decode("utf-8", errors="replace"))

    def text_4(self) -> None:
        self.stack.append(self._take(self._number(4)).decode("utf-8", errors="replace"))

    def text_8(self) -> None:
        self.stack.append(self._take(self._number(8)).decode("utf-8", errors="replace"))

    def bytes_1(self) -> None:
        self.stack.append(self._take(self._number(1)))

    def bytes_4(self) -> None:
        self.stack.append(self._take(self._number(4)))

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def put_1(self) -> None:
        self.memo[self._number(1)] = self.stack[-1]

    def put_4(self) -> None:
        self.memo[self._number(4)] = self.stack[-1]

    def get_1(self) -> None:
        self.stack.append(self.memo[self._number(1)])

    def get_4(self) -> None:
        self.stack.append(self.memo[self._number(4)])


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


_STEPS = {
    0x80: "skip_protocol", 0x95: "skip_frame", 0x28: "mark", 0x30: "pop", 0x4E: "none", 0x88: "true", 0x89: "false",
    0x5D: "empty_list", 0x7D: "empty_dict", 0x29: "empty_tuple", 0x85: "tuple_1", 0x86: "tuple_2", 0x87: "tuple_3",
    0x74: "tuple_marked", 0x6C: "list_marked", 0x61: "append", 0x65: "appends", 0x73: "setitem", 0x75: "setitems",
    0x4B: "int_1", 0x4D: "int_2", 0x4A: "int_4", 0x8A: "long_1", 0x49: "int_line", 0x4C: "long_line",
    0x47: "float_8", 0x8C: "text_1", 0x58: "text_4", 0x8D: "text_8", 0x43: "bytes_1", 0x42: "bytes_4",
    0x94: "memoize", 0x71: "put_1", 0x72: "put_4", 0x68: "get_1", 0x6A: "get_4",
}  # fmt: skip
