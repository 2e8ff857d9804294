"""The small language of MindSpore's text IR: argument lists, constants and types."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from memplan.graph.model import DTYPE_BITS
from memplan.readers.mindir.decode import (
    CLOSURE,
    MONAD,
    FunctionConstant,
    Literal,
    MonadType,
    ScalarType,
    SequenceType,
    TensorType,
    ValueType,
)

_OPEN, _CLOSE = "([{<", ")]}>"
_MAX_DEPTH = 50


class TextValue(NamedTuple):
    """A constant tensor; `elided` when the dump leaves its elements out."""

    shape: tuple[int, ...]
    dtype: str
    elided: bool


def split_top(text: str, separator: str = ", ") -> list[str]:
    """Parts of `text` between separators that are in no brackets and no quotes."""
    parts: list[str] = []
    depth, quoted, start, place = 0, False, 0, 0
    while place < len(text):
        char = text[place]
        if char == '"':
            quoted = not quoted
        elif quoted:
            pass
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE and not (char == ">" and text[place - 1 : place] == "-"):
            depth -= 1
        elif depth == 0 and text.startswith(separator, place):
            parts.append(text[start:place])
            start = place = place + len(separator)
            continue
        place += 1
    parts.append(text[start:])
    return parts


_NUMBER = re.compile(r"(I|U|F|BF|Bool|Int|UInt|Float)(\d*)\((.*)\)$")
_TENSOR = re.compile(r"Tensor\(shape=\[([^\]]*)\], dtype=(\w+)(.*)\)$")


def parse_argument(text: str, depth: int = 0) -> Literal | TextValue | FunctionConstant | MonadType | tuple[Any, ...]:
    """A spelled-out argument; raises `ValueError` when it nests too deep or holds a broken tensor."""
    if depth > _MAX_DEPTH:
        raise ValueError("a constant nests too deep")
    if match := _TENSOR.match(text):
        shape = tuple(int(item) for item in match.group(1).replace(",", " ").split())
        dtype = match.group(2).lower()
        if dtype not in DTYPE_BITS:
            raise ValueError(f"dtype {match.group(2)!r:.30} is unknown")
        return TextValue(shape, dtype, "..." in match.group(3) or "value=" not in match.group(3))
    if match := _NUMBER.match(text):
        return Literal(_number(match.group(1), match.group(3)))
    if text.startswith(("UMonad", "IOMonad", "U[", "IO[")):
        return MONAD
    if text.startswith("@"):
        return FunctionConstant(text[1:])
    if text.startswith(("(", "[")) and text.endswith((")", "]")):
        items = [parse_argument(part.strip(), depth + 1) for part in split_top(text[1:-1]) if part.strip()]
        if all(isinstance(item, Literal) for item in items):
            return Literal(tuple(item.value for item in items if isinstance(item, Literal)))
        return tuple(items)
    if text.startswith('"'):
        return Literal(text.strip('"'))
    if text in ("None", "null"):
        return Literal(None)
    try:
        return Literal(int(text))
    except ValueError:
        return Literal(text)


def _number(kind: str, text: str) -> object:
    if kind == "Bool":
        return text not in ("0", "false", "False")
    try:
        return float(text) if kind in ("F", "BF", "Float") else int(text)
    except ValueError:
        return text


_SHAPE = re.compile(r"\(([-\d, ]*)\)")


def value_type_of(text: str, place: str) -> ValueType:
    """
    The type written as `<Tensor[Float32], (2, 3)>`, `<Tuple[...], TupleShape(...)>`, `<Int64, NoShape>` and so on.

    Raises `ValueError` when a tensor's dtype or shape can't be read.
    """
    text = text.strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    parts = split_top(text)
    return _typed(parts[0], parts[1] if len(parts) > 1 else "", place, 0)


def _typed(name: str, shape: str, place: str, depth: int) -> ValueType:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{place}: a type nests too deep")
    if name.startswith("Ref[") and name.endswith("]"):
        return _typed(name[4:-1], shape, place, depth + 1)
    if name.startswith("Tensor[") and name.endswith("]"):
        dtype = name[7:-1].lower()
        match = _SHAPE.fullmatch(shape.strip())
        if dtype not in DTYPE_BITS or match is None:
            raise ValueError(f"{place}: tensor {name!r:.40} of shape {shape!r:.40} has no known size")
        return TensorType(tuple(int(item) for item in match.group(1).split(",") if item.strip()), dtype)
    if name.startswith(("Tuple[", "List[")) and name.endswith("]"):
        return _sequence(name[name.index("[") + 1 : -1], shape, place, depth + 1)
    if name.startswith(("UMonad", "IOMonad")):
        return MONAD
    if name.startswith(("Func", "Partial")):
        return CLOSURE
    return ScalarType(name.lower())


def _sequence(names: str, shape: str, place: str, depth: int) -> ValueType:
    """A tuple's elements: `T*3` stands for three of `T`; their shapes are inside `TupleShape(...)`."""
    kinds: list[str] = []
    for part in _split_names(names):
        base, star, count = part.rpartition("*")
        if star and count.isdigit() and int(count) < 1_000_000:
            kinds.extend([base] * int(count))
        else:
            kinds.append(part)
    inner = shape[shape.index("(") + 1 : -1] if "(" in shape else ""
    shapes = split_top(inner) if inner else []
    if len(shapes) != len(kinds):
        shapes = [*shapes, *("NoShape" for _ in range(len(kinds) - len(shapes)))]
    return SequenceType(tuple(_typed(kind, one, place, depth) for kind, one in zip(kinds, shapes, strict=False)))


def _split_names(text: str) -> list[str]:
    return [part for chunk in split_top(text, ",") for part in [chunk.strip()] if part]
