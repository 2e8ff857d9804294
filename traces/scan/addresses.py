"""
Loads and stores at plain addresses, for compiled loops.

Numba counts references to every array that a function is handed, which costs more than the work of a short function;
an address costs nothing, and eight bytes may be loaded from anywhere. Callers keep the arrays alive and stay in them.
"""

# ruff: noqa: ARG001  (Numba calls these with its own objects, all of them)

# mypy: ignore-errors
# The types here are those of compiled code (Numba infers them); an `int` may be of 32 or 64 bits.

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_WIDTHS = {
    types.uint8: ir.IntType(8),
    types.int32: ir.IntType(32),
    types.int64: ir.IntType(64),
    types.uint64: ir.IntType(64),
    types.float64: ir.DoubleType(),
}


def _load(kind: Any) -> Any:
    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _WIDTHS[kind].as_pointer())
        return builder.load(pointer, align=1)

    return kind(types.int64), load


def _store(kind: Any) -> Any:
    def store(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _WIDTHS[kind].as_pointer())
        builder.store(arguments[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, kind), store


@intrinsic
def u8(typing_context: Any, address: Any) -> Any:
    """The byte at `address`."""
    return _load(types.uint8)


@intrinsic
def i32(typing_context: Any, address: Any) -> Any:
    """The signed 32-bit number at `address`."""
    return _load(types.int32)


@intrinsic
def i64(typing_context: Any, address: Any) -> Any:
    """The signed 64-bit number at `address`."""
    return _load(types.int64)


@intrinsic
def u64(typing_context: Any, address: Any) -> Any:
    """The eight bytes at `address` as one number, the first byte lowest on the machines that Numba knows."""
    return _load(types.uint64)


@intrinsic
def put_i32(typing_context: Any, address: Any, value: Any) -> Any:
    """Store a signed 32-bit number at `address`."""
    return _store(types.int32)


@intrinsic
def put_i64(typing_context: Any, address: Any, value: Any) -> Any:
    """Store a signed 64-bit number at `address`."""
    return _store(types.int64)


@intrinsic
def put_u64(typing_context: Any, address: Any, value: Any) -> Any:
    """Store an unsigned 64-bit number at `address`."""
    return _store(types.uint64)


@intrinsic
def put_f64(typing_context: Any, address: Any, value: Any) -> Any:
    """Store a float at `address`."""
    return _store(types.float64)
