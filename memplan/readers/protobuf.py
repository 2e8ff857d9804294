"""
Protobuf messages described by a table of their fields, read without any generated code.

The parsing is the library's. What `protoc` generates is not used: it refuses to run with a library of another release
than its own (its check of versions at import), and would describe hundreds of fields where a reader looks at twenty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence

_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13,
}  # fmt: skip
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3

MessageTable = Mapping[str, str]
"""
Message name -> its fields as `number name type` separated by commas; `*` before the type means repeated, `?` that a
value of zero is told from none.

A type is a scalar of protobuf or another message of the table. Enums are read as `int32`, which has the same wire
form. Fields left out are kept by protobuf as unknown bytes and cost no time.
"""


def message_class(package: str, table: MessageTable, root: str, *, lossless: bool = False) -> Any:
    """
    The class of message `root` of `table`; each call makes its own pool, so that nothing is registered globally.

    Normally strings that are not UTF-8 are refused while parsing. A `lossless` class takes them, and writes back the
    very bytes it was given.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # slow to import

    syntax = "proto2" if lossless else "proto3"
    file = descriptor_pb2.FileDescriptorProto(name=f"memplan/{package}.proto", package=package, syntax=syntax)
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        for entry in fields.split(","):
            number, label, kind = entry.split()
            field = message.field.add(name=label, number=int(number), label=_OPTIONAL)
            if kind.startswith("*"):
                field.label = _REPEATED
                kind = kind[1:]
            elif kind.startswith("?"):
                kind = kind[1:]
                if not lossless:  # proto2 tells them apart anyway
                    field.proto3_optional = True
                    field.oneof_index = len(message.oneof_decl)
                    message.oneof_decl.add(name=f"_{label}")
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = _MESSAGE
                field.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{root}"))


def parse(cls: Any, data: bytes, *, path: str | Path, what: Sentence, remedy: str) -> Any:
    """`data` as a message of class `cls`; raises `InputError` when it is none."""
    from google.protobuf.message import DecodeError

    try:
        return cls.FromString(data)
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise InputError("this is not {}, or it is cut off or encrypted", what, path=path, remedy=remedy) from None
