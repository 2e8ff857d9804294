"""Tensors that PyTorch saves for the way back, kept on the host: the layers of a module, and taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memplan.core.errors import InputError

_FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class _OnHost:
    """A storage on the host, and how the saved tensor lies in it."""

    storage: Any
    device: Any
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def keep_saved_on_host(module: Any, moved: Mapping[int, int]) -> Callable[[], None]:
    """
    Have what `module` saves for the way back wait on the host; returns what takes that back.

    `moved` says how many storages of so many bytes, in each forward pass; weights and what else exists before stay.
    Bits, strides and views of one storage stay what they were, so that the same kernels run on the way back. Raises
    `InputError` where this torch has no hooks on saved tensors.
    """
    try:
        from torch.autograd.graph import saved_tensors_hooks
    except ImportError as error:
        raise InputError(f"torch.autograd.graph.saved_tensors_hooks is not there: {error}") from None
    own = module.__dict__.get(_FORWARD)
    forward = module.forward

    def kept_on_host(*inputs: Any, **named: Any) -> Any:
        with saved_tensors_hooks(_packer(moved), _unpack):
            return forward(*inputs, **named)

    module.__dict__[_FORWARD] = kept_on_host

    def undo() -> None:
        if own is None:
            module.__dict__.pop(_FORWARD, None)
        else:
            module.__dict__[_FORWARD] = own

    return undo


def _packer(moved: Mapping[int, int]) -> Callable[[Any], Any]:
    """The hook of one forward pass."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef

    remaining = Counter(moved)
    # A weak reference keeps the address of a storage that is gone from being taken for another's.
    copies: dict[tuple[int, int], tuple[Any, Any]] = {}

    def pack(tensor: Any) -> Any:
        if isinstance(tensor, torch.nn.Parameter) or (tensor.is_leaf and tensor.requires_grad):
            return tensor
        if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.is_quantized:
            return tensor
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        # What is written over in place afterwards is another content of the same storage.
        key = reference.cdata, tensor._version
        if key not in copies:
            if remaining[storage.nbytes()] <= 0 or (tensor._is_view() and isinstance(tensor._base, torch.nn.Parameter)):
                return tensor
            remaining[storage.nbytes()] -= 1
            copies[key] = reference, _copy(torch, tensor)
        return _OnHost(
            copies[key][1], tensor.device, tuple(tensor.size()), tuple(tensor.stride()), tensor.storage_offset()
        )

    return pack


def _copy(torch: Any, tensor: Any) -> Any:
    """All of the storage of `tensor`, on the host; in pinned memory where a device copies from it."""
    whole = _whole(tensor)
    host = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=tensor.device.type not in ("cpu", "meta"))
    with torch.no_grad():
        host.copy_(whole)
    return host


def _whole(tensor: Any) -> Any:
    """The storage of `tensor` as one row of its elements."""
    detached = tensor.detach()
    return detached.as_strided((detached.untyped_storage().nbytes() // detached.element_size(),), (1,), 0)


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, _OnHost):
        return packed
    import torch

    with torch.no_grad():
        # A copy on the host too: what the kernel gets may be written over, and the way back be gone twice.
        back = packed.storage.to(packed.device, non_blocking=True, copy=True)
        return back.as_strided(packed.size, packed.stride, packed.offset)
