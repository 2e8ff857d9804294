"""
What the names of ops and kernels say: an op has one type in the graph, another in CANN's library, a third on device.

`MatMulExt`, `aclnnMatmul` and `MatMulV3` are one family of ops; `op_names.json` holds the spellings with their sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from memplan.core.resources import table


@cache
def _spelled(part: str) -> tuple[str, ...]:
    return tuple(table("memplan.graph", "op_names.json")[part]["names"])


@cache
def _families() -> Mapping[str, str]:
    families = table("memplan.graph", "op_names.json")["families"]
    return {name: family for family, entry in families.items() for name in entry["names"]}


@cache
def op_family(op_type: str) -> str:
    """
    The family of `op_type` in lower case, on which framework, operator library and device agree.

    `MatMulExt`, `aclnnMatmul`, `MatMulV3` and `Dense` are `matmul`, `ConcatD` and `aclnnCat` are `concat`; gradients
    are families of their own (`relugrad`). A type that is not known is itself, without prefix, version and suffix.
    """
    shortest = _shortened(_without_prefixes(_marked(op_type)))[-1]
    for ending in _spelled("gradient"):
        if shortest.endswith(ending):
            shortest = _shortened(shortest.removesuffix(ending))[-1] + "grad"
    return _families().get(shortest, shortest)


@lru_cache(maxsize=1 << 14)
def spelled_family(text: str) -> str:
    """`op_family` of a type as any framework spells it: `aten::add_`, `aclnnInplaceAdd` and `AddV2` are `add`."""
    return op_family(text.strip().rpartition("::")[2].replace("_", "").replace("-", ""))


_CONSTANT_FORM = re.compile(r"(?<=[a-z])D$")


def _marked(op_type: str) -> str:
    """`op_type` in lower case without the `D` of `ConcatD`, which lower case can't tell from that of `Add`."""
    return _CONSTANT_FORM.sub("", op_type).casefold()


def _without_prefixes(name: str) -> str:
    for prefix in _spelled("prefixes"):
        if name.startswith(prefix) and len(name) > len(prefix) + 1:
            name = name.removeprefix(prefix)
    return name


@cache
def table_names(op_type: str) -> tuple[str, ...]:
    """
    Names under which a table may list `op_type`, in lower case, the nearest first.

    The full name, then shorter ones without prefix, version and suffix; the gradient of an op counts as the op at last.
    """
    name = op_type.casefold().removeprefix("aclnn")
    if name.startswith("hcom"):
        name = name.rstrip("_")
    starts = [name]
    starts += [name.removeprefix(prefix) for prefix in _spelled("prefixes") if name.startswith(prefix)]
    found = [short for start in starts for short in _shortened(start, constant=True)]
    grads = [text.removesuffix("grad") for text in found if text.endswith("grad")]
    return tuple(dict.fromkeys((*found, *(short for text in grads for short in _shortened(text, constant=True)))))


def _shortened(name: str, *, constant: bool = False) -> list[str]:
    """`name` without one suffix after the other: `V3`, `Ext`, `Scalar`, and with `constant` a last `d`."""
    suffixes = [suffix for suffix in _spelled("suffixes") if constant or suffix != "d"]
    forms = [name]
    while True:
        last = forms[-1]
        head = last.rstrip("0123456789")
        if head != last and head.endswith("v") and len(head) > 3:
            forms.append(head.removesuffix("v"))
            continue
        # A short suffix could as well be the end of a short name: `Add`, `Pad`, `Next`.
        suffix = next((t for t in suffixes if last.endswith(t) and len(last) - len(t) >= 2 + (len(t) <= 3)), None)
        if suffix is None:
            return forms
        forms.append(last.removesuffix(suffix))


@dataclass(frozen=True, slots=True)
class LibraryKernel:
    """
    A kernel that CANN's operator library launched: `aclnnMatmul_MatMulV3Common_MatMulV3` is `api` `aclnnMatmul`, `op`
    `MatMulV3Common` and `kernel` `MatMulV3`.

    `helper` is true for what only prepares memory for the op (`MemSet`).
    """

    api: str
    op: str
    kernel: str

    @property
    def helper(self) -> bool:
        """Whether it only prepares memory for the op that it is named after."""
        return self.kernel.casefold() in _spelled("helpers")


_LIBRARY = re.compile(r"(?:^|/)(?P<api>aclnn[A-Za-z0-9]+)_(?P<op>\w+)_(?P<kernel>[A-Za-z0-9]+)$")


def library_kernel(name: str) -> LibraryKernel | None:
    """What the kernel name `name` of a profile says of its call, `None` for names of another form."""
    match = _LIBRARY.search(name)
    return LibraryKernel(match["api"], match["op"], match["kernel"]) if match else None


def op_spellings(name: str) -> Iterator[str]:
    """Names an op may have whose kernel is called `name`: that name, or `<op>` of `<op>/<device kernel>`."""
    yield name
    head, _, _ = name.rpartition("/")
    if head:
        yield head


_EXPANSION = re.compile(r"Expand/_(?P<parent>\w+)/\w+-op\d+$")
_SCOPED = re.compile(r"(?:^|/)(\w+)-op\d+$")


def type_of_kernel(name: str) -> str:
    """
    The op type that the name of a kernel says: `MatMul` of `Default/q-Dense/MatMul-op3`, `MatMulV3` of
    `aclnnMatmul_MatMulV3Common_MatMulV3`; empty for other names.

    Kernels that MindSpore put in the place of an op, such as `Expand/_SumExt/Cast-op2`, are of that op's type.
    """
    if expanded := _EXPANSION.match(name):
        return expanded["parent"]
    if scoped := _SCOPED.search(name):
        return scoped[1]
    called = library_kernel(name)
    return called.kernel if called else ""
