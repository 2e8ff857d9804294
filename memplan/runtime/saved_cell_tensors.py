"""Tensors that MindSpore saves for the way back in PyNative mode, kept on the host: those of a cell, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from memplan.runtime.host_moves import DueMoves

_CONSTRUCT = "construct"


class SavedCellTensors:
    """
    Tensors that the cells of a program save, by address: one that a cell moves to the host goes there for all of them.

    What a cell returns may be saved by its own last op and by the next cell. `due` tells which are to leave, `weights`
    stay, and so does the batch, which its maker holds all the same: they are saved as plain tensors, and their
    addresses tell them.
    """

    def __init__(self, due: DueMoves, weights: Iterable[Any]) -> None:
        self.due = due
        self._stays = {parameter.data_ptr() for parameter in weights}
        self._held: dict[int, WeakSet[_Saved]] = {}
        self._batch: frozenset[int] = frozenset()

    def begin(self, layer: str | None, given: Iterable[Any]) -> None:
        """The forward pass of `layer` begins with the arguments `given`, that of the whole program where `None`."""
        import mindspore

        self.due.begin(layer)
        if layer is None:
            self._batch = frozenset(item.data_ptr() for item in given if isinstance(item, mindspore.Tensor))

    def end(self, layer: str | None) -> None:
        """It ends."""
        self.due.end(layer)
        if layer is None:
            self._batch = frozenset()

    def add(self, tensor: Any) -> _Saved | None:
        """`tensor` as saved once more; `None` for one that stays where it is."""
        address = tensor.data_ptr()
        stays = address in self._stays or address in self._batch
        if int(tensor.nbytes) not in self.due.sizes or stays or not tensor.is_contiguous():
            return None
        here = self._held.setdefault(address, WeakSet())
        saved = _Saved(tensor)
        copies = [other for other in here if other.content is not None and other.dtype == tensor.dtype]
        if copies:
            # Addresses are used again: the bytes tell whether it is the same tensor.
            content = tensor.asnumpy().tobytes()
            same = next((other for other in copies if other.content.tobytes() == content), None)
            if same is not None:
                saved.put(same.content)
        here.add(saved)
        return saved

    def move(self, saved: _Saved) -> bool:
        """Keep on the host what `saved` holds, whoever saved it; whether it was not there and can be."""
        if saved.tensor is None:
            return False
        array = saved.tensor.asnumpy()
        if array.dtype.kind not in "biufc":
            return False
        content = array.copy()
        for other in list(self._held[saved.tensor.data_ptr()]):
            if other.tensor is not None and other.dtype == saved.dtype:
                other.put(content)
        return True


class _Saved:
    """A tensor where it was, or its bytes on the host."""

    def __init__(self, tensor: Any) -> None:
        self.tensor, self.dtype, self.shape = tensor, tensor.dtype, tuple(tensor.shape)
        self.content: Any = None

    def put(self, content: Any) -> None:
        """Let go of the tensor, whose bytes `content` has."""
        self.tensor, self.content = None, content.reshape(self.shape)


def keep_cell_saved_on_host(cell: Any, layer: str | None, tensors: SavedCellTensors) -> Callable[[], None]:
    """
    Have what `cell` saves for the way back wait on the host; returns what takes that back.

    It is `layer` of a program, which shares `tensors`, or the whole program (`None`); what is due goes, in each forward
    pass, but weights stay, and so do views with gaps and element types that the host's arrays lack. What comes back has
    the same bits.
    """
    import mindspore

    own = cell.__dict__.get(_CONSTRUCT)
    construct = cell.construct

    def kept_on_host(*inputs: Any, **named: Any) -> Any:
        tensors.begin(layer, (*inputs, *named.values()))
        try:
            with mindspore.saved_tensors_hooks(_packer(tensors), _unpack):
                return construct(*inputs, **named)
        finally:
            tensors.end(layer)

    cell.__dict__[_CONSTRUCT] = kept_on_host

    def undo() -> None:
        if own is None:
            cell.__dict__.pop(_CONSTRUCT, None)
        else:
            cell.__dict__[_CONSTRUCT] = own

    return undo


def _packer(tensors: SavedCellTensors) -> Callable[[Any], Any]:
    """The hook of one forward pass."""

    def pack(tensor: Any) -> Any:
        saved = tensors.add(tensor)
        if saved is None:
            return tensor
        nbytes = int(tensor.nbytes)
        if tensors.due.is_due(nbytes) and tensors.move(saved):
            tensors.due.settle(nbytes)
        return saved

    return pack


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, _Saved):
        return packed
    if packed.tensor is not None:
        return packed.tensor
    import mindspore

    return mindspore.Tensor(packed.content, packed.dtype)
