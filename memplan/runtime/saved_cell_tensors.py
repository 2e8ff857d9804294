"""Tensors that MindSpore saves for the way back in PyNative mode, kept on the host: those of a cell, and taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_CONSTRUCT = "construct"


@dataclass(frozen=True, slots=True)
class _OnHost:
    """The bytes of a tensor on the host, and its element type."""

    content: Any
    dtype: Any


def keep_cell_saved_on_host(cell: Any, moved: Mapping[int, int]) -> Callable[[], None]:
    """
    Have what `cell` saves for the way back wait on the host; returns what takes that back.

    `moved` says how many tensors of so many bytes, in each forward pass; weights stay, and so do views with gaps and
    element types that the host's arrays lack. What comes back has the same bits.
    """
    import mindspore

    own = cell.__dict__.get(_CONSTRUCT)
    construct = cell.construct

    def kept_on_host(*inputs: Any, **named: Any) -> Any:
        with mindspore.saved_tensors_hooks(_packer(cell, moved), _unpack):
            return construct(*inputs, **named)

    cell.__dict__[_CONSTRUCT] = kept_on_host

    def undo() -> None:
        if own is None:
            cell.__dict__.pop(_CONSTRUCT, None)
        else:
            cell.__dict__[_CONSTRUCT] = own

    return undo


def _packer(cell: Any, moved: Mapping[int, int]) -> Callable[[Any], Any]:
    """The hook of one forward pass."""
    remaining = Counter(moved)
    # Weights are saved as plain tensors: their addresses tell them.
    stays = {parameter.data_ptr() for parameter in cell.get_parameters()}
    copies: dict[int, list[_OnHost]] = {}

    def pack(tensor: Any) -> Any:
        address, nbytes = tensor.data_ptr(), int(tensor.nbytes)
        if not moved.get(nbytes) or address in stays or not tensor.is_contiguous():
            return tensor
        array = tensor.asnumpy()
        # One tensor saved twice is kept once. Addresses are used again, so its bytes are asked too.
        for copy in copies.get(address, ()):
            same = copy.dtype == tensor.dtype and copy.content.shape == array.shape
            if same and copy.content.tobytes() == array.tobytes():
                return copy
        if remaining[nbytes] <= 0 or array.dtype.kind not in "biufc":
            return tensor
        remaining[nbytes] -= 1
        kept = _OnHost(array.copy(), tensor.dtype)
        copies.setdefault(address, []).append(kept)
        return kept

    return pack


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, _OnHost):
        return packed
    import mindspore

    return mindspore.Tensor(packed.content, packed.dtype)
