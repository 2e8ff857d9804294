"""Tensors that PyTorch saves for the way back, kept on the host: the layers of a module, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from memplan.core.errors import InputError
from memplan.readers.pytorch.module_recompute import with_forward
from memplan.runtime.host_moves import DueMoves


class SavedStorages:
    """
    Storages that the layers of a module save for the way back, each held once however many layers save it.

    `due` tells which are to leave. What has moved to the host is there for all that saved it: what a layer returns may
    be saved by its own last op and by the next layer. The batch stays: whoever made it holds it all the same.
    """

    def __init__(self, due: DueMoves) -> None:
        self.due = due
        self._held: WeakValueDictionary[int, _Storage] = WeakValueDictionary()
        self._batch: frozenset[int] = frozenset()

    def begin(self, layer: str | None, given: Any) -> None:
        """The forward pass of `layer` begins with the arguments `given`, that of the whole program where `None`."""
        import torch
        from torch.utils._pytree import tree_leaves

        self.due.begin(layer)
        if layer is None:
            tensors = (item for item in tree_leaves(given) if type(item) is torch.Tensor and item.grad_fn is None)
            self._batch = frozenset(item.untyped_storage()._cdata for item in tensors if not item._is_view())

    def end(self, layer: str | None) -> None:
        """It ends."""
        self.due.end(layer)
        if layer is None:
            self._batch = frozenset()

    def stays(self, tensor: Any) -> bool:
        """Whether `tensor` is of the batch."""
        return tensor.untyped_storage()._cdata in self._batch

    def of(self, tensor: Any) -> _Storage:
        """The storage of `tensor`."""
        from torch.multiprocessing.reductions import StorageWeakRef

        # A weak reference keeps the address of a storage that is gone from being taken for another's.
        reference = StorageWeakRef(tensor.untyped_storage())
        held = self._held.get(reference.cdata)
        if held is None:
            self._held[reference.cdata] = held = _Storage(_whole(tensor), reference)
        return held


class _Storage:
    """A storage as one row of its elements: where it was, or a copy on the host."""

    def __init__(self, whole: Any, reference: Any) -> None:
        self.whole, self.reference, self.device = whole, reference, whole.device
        self.on_host = False
        self._seen: set[tuple[int, int, int]] = set()

    def see(self, tensor: Any) -> None:
        """
        Have the copy on the host hold what is saved now as `tensor`.

        Parts of one storage may be written in place one after another, each with a count of versions of its own: the
        gates of a recurrent cell are.
        """
        import torch

        owner = tensor._base if tensor._is_view() else tensor
        state = tensor._version, owner.storage_offset(), owner.numel()
        if state not in self._seen:
            self._seen.add(state)
            if self.on_host:
                with torch.no_grad():
                    self.whole.copy_(_whole(tensor))

    def move(self) -> None:
        """Keep it on the host from now on."""
        self.whole, self.on_host = _copy(self.whole), True


@dataclass(frozen=True, slots=True)
class _Saved:
    """How a saved tensor lies in its storage."""

    storage: _Storage
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def keep_saved_on_host(module: Any, layer: str | None, storages: SavedStorages) -> Callable[[], None]:
    """
    Have what `module` saves for the way back wait on the host; returns what takes that back.

    It is `layer` of a program, which shares `storages`, or the whole program (`None`); what is due goes, in each
    forward pass, but weights and what else exists before stay. Bits, strides and views of one storage stay what they
    were, so that the same kernels run on the way back. Raises `InputError` where this torch has no hooks on saved
    tensors.
    """
    try:
        from torch.autograd.graph import saved_tensors_hooks
    except ImportError as error:
        raise InputError(
            "torch.autograd.graph.saved_tensors_hooks is not there: {}", error, remedy="use torch 2.6 or newer"
        ) from None
    forward = module.forward

    def kept_on_host(*inputs: Any, **named: Any) -> Any:
        storages.begin(layer, (inputs, named))
        try:
            with saved_tensors_hooks(_packer(storages), _unpack):
                return forward(*inputs, **named)
        finally:
            storages.end(layer)

    return with_forward(module, kept_on_host)


def _packer(storages: SavedStorages) -> Callable[[Any], Any]:
    """The hook of one forward pass."""
    import torch

    due = storages.due

    def pack(tensor: Any) -> Any:
        if isinstance(tensor, torch.nn.Parameter) or (tensor.is_leaf and tensor.requires_grad):
            return tensor
        if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.is_quantized:
            return tensor
        nbytes = tensor.untyped_storage().nbytes()
        if (
            nbytes not in due.sizes
            or storages.stays(tensor)
            or (tensor._is_view() and isinstance(tensor._base, torch.nn.Parameter))
        ):
            return tensor
        storage = storages.of(tensor)
        if storage.whole.dtype != tensor.dtype:
            return tensor
        storage.see(tensor)
        if not storage.on_host and due.is_due(nbytes):
            storage.move()
            due.settle(nbytes)
        return _Saved(storage, tuple(tensor.size()), tuple(tensor.stride()), tensor.storage_offset())

    return pack


def _copy(whole: Any) -> Any:
    """A storage on the host; in pinned memory where a device copies from it."""
    import torch

    host = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=whole.device.type not in ("cpu", "meta"))
    with torch.no_grad():
        host.copy_(whole)
    return host


def _whole(tensor: Any) -> Any:
    """The storage of `tensor` as one row of its elements."""
    detached = tensor.detach()
    return detached.as_strided((detached.untyped_storage().nbytes() // detached.element_size(),), (1,), 0)


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, _Saved):
        return packed
    import torch

    storage, back = packed.storage, packed.storage.whole
    with torch.no_grad():
        if storage.on_host:
            # A copy on the host too: what the kernel gets may be written over, and the way back be gone twice.
            back = back.to(storage.device, non_blocking=True, copy=True)
        return back.as_strided(packed.size, packed.stride, packed.offset)
