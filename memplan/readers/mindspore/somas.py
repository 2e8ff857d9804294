"""
SOMAS, MindSpore's own static memory planner: what it dumps about its problem and its answer.

Text dumps (`<device>_somas_tensor_offset_<graph>.ir` and the same tables at earlier stages) come with `save_graphs`
and memory optimisation level O1; the JSON cache (`somas_graph_<graph>_<hash>.json`) with the compile cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import Graph, TensorKind

SOMAS_MARK = "All Tensors:"
_OUTSIDE = frozenset({"GraphOutput", "GraphInput"})
_IDS = re.compile(r"%(\d+)([TP])")


@dataclass(frozen=True, slots=True)
class SomasTensor:
    """
    One row of the tensor table: sizes and offset in bytes, first and last node that uses it (inclusive).

    `type` is SOMAS's word (`Common`, `Union`, `Workspace`, `OutputOnly`, `GraphOutput`, ...). A tensor with an aligned
    size of 0 is allocated elsewhere.
    """

    id: int
    aligned_size: int
    original_size: int
    offset: int
    type: str
    lifelong: str
    start: int
    end: int
    node: str


@dataclass(frozen=True, slots=True)
class SomasNode:
    """One node: the ids of tensors it reads, writes and uses as workspace, of parameters it reads, and its stream."""

    id: int
    name: str
    inputs: tuple[int, ...]
    parameters: tuple[int, ...]
    outputs: tuple[int, ...]
    workspace: tuple[int, ...]
    after: tuple[int, ...]
    stream: int


@dataclass(frozen=True, slots=True)
class SomasDump:
    """All that one dump says; `total` is its last line, `None` when the dump has none."""

    path: str
    parameters: Mapping[int, tuple[str, int]]
    tensors: Mapping[int, SomasTensor]
    nodes: tuple[SomasNode, ...]
    unions: tuple[tuple[int, ...], ...]
    total: int | None

    @property
    def upper_bound(self) -> int:
        """Bytes without any reuse, as SOMAS prints it: a union counts once."""
        joined = {tensor for union in self.unions for tensor in union}
        alone = sum(tensor.aligned_size for tensor in self.tensors.values() if tensor.id not in joined)
        return alone + sum(max(self.tensors[tensor].aligned_size for tensor in union) for union in self.unions)

    @property
    def printed_lower_bound(self) -> int:
        """
        What SOMAS prints as lower bound: the most bytes alive in the order of its nodes.

        It takes a union for its first tensor alone, so it can lie below what any run needs; and with several streams
        more may be alive together than in that one order.
        """
        hidden = {tensor for union in self.unions for tensor in union[1:]}
        change: dict[int, int] = {}
        for tensor in self.tensors.values():
            if tensor.id not in hidden:
                change[tensor.start] = change.get(tensor.start, 0) + tensor.aligned_size
                change[tensor.end + 1] = change.get(tensor.end + 1, 0) - tensor.aligned_size
        alive = most = 0
        for step in sorted(change):
            alive += change[step]
            most = max(most, alive)
        return most

    @property
    def result(self) -> int:
        """Highest address in use, from the offsets of the tensors."""
        return max((tensor.offset + tensor.aligned_size for tensor in self.tensors.values()), default=0)


def parse_somas(text: str, path: str | Path) -> SomasDump:
    """A SOMAS text dump as a record; `path` is named in errors."""
    parameters: dict[int, tuple[str, int]] = {}
    tensors: dict[int, SomasTensor] = {}
    nodes: list[SomasNode] = []
    unions: list[tuple[int, ...]] = []
    total: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.rstrip().split("\t")
        head = cells[0]
        try:
            if re.fullmatch(r"%\d+P", head):
                parameters[int(head[1:-1])] = (cells[2], _size(cells[1]))
            elif re.fullmatch(r"%\d+T", head):
                tensor = _tensor(cells)
                if tensors.setdefault(tensor.id, tensor) is not tensor:
                    raise ValueError("two tensors have this number")
            elif re.fullmatch(r"\$\d+", head):
                nodes.append(_node(line))
            elif line.startswith("union tensors:"):
                unions.append(tuple(int(item) for item, _ in _IDS.findall(line)))
            elif line.startswith("Total Memory Size after reused:"):
                total = int(line.rsplit(":", 1)[1])
        except (ValueError, IndexError) as error:
            raise InputError(
                "not a row of a SOMAS dump: {}", error, path=path, place=Sentence("line {}", (number,))
            ) from None
    if not nodes or SOMAS_MARK not in text:
        raise InputError("this is not a SOMAS dump", path=path, remedy="name *_somas_tensor_offset_*.ir")
    return _checked(SomasDump(str(path), parameters, tensors, tuple(nodes), tuple(unions), total))


def _size(cell: str) -> int:
    if not re.fullmatch(r"#\d+S", cell):
        raise ValueError(f"{cell!r:.30} is no size")
    return int(cell[1:-1])


def _tensor(cells: Sequence[str]) -> SomasTensor:
    if not re.fullmatch(r"&\d+", cells[3]):
        raise ValueError(f"{cells[3]!r:.30} is no offset")
    return SomasTensor(
        id=int(cells[0][1:-1]),
        aligned_size=_size(cells[1]),
        original_size=_size(cells[2]),
        offset=int(cells[3][1:]),
        type=cells[4],
        lifelong=cells[5],
        start=int(cells[6]),
        end=int(cells[7]),
        node=cells[8],
    )


_NODE = re.compile(
    r"\$(\d+)\t(.*?)\t[^\t]*\tinputs\[([^\]]*)\]\toutputs\[([^\]]*)\]\tworkspace\[([^\]]*)\]"
    r"\tctrl_inputs\[([^\]]*)\]\tctrl_outputs\[([^\]]*)\]\tstreamID\[@(\d+)\]"
)


def _node(line: str) -> SomasNode:
    match = _NODE.match(line)
    if match is None:
        raise ValueError("a node without its lists")
    reads = _IDS.findall(match.group(3))
    return SomasNode(
        id=int(match.group(1)),
        name=match.group(2),
        inputs=tuple(int(item) for item, kind in reads if kind == "T"),
        parameters=tuple(int(item) for item, kind in reads if kind == "P"),
        outputs=tuple(int(item) for item, _ in _IDS.findall(match.group(4))),
        workspace=tuple(int(item) for item, _ in _IDS.findall(match.group(5))),
        after=tuple(int(item) for item in re.findall(r"\d+", match.group(6))),
        stream=int(match.group(8)),
    )


def _checked(dump: SomasDump) -> SomasDump:
    known = dump.tensors
    for node in dump.nodes:
        for tensor in (*node.inputs, *node.outputs, *node.workspace):
            if tensor not in known:
                raise InputError(
                    "tensor {} is in no row", tensor, path=dump.path, place=Sentence("node ${}", (node.id,))
                )
        for parameter in node.parameters:
            if parameter not in dump.parameters:
                raise InputError(
                    "parameter {} is in no row", parameter, path=dump.path, place=Sentence("node ${}", (node.id,))
                )
    for union in dump.unions:
        if not union or any(tensor not in known for tensor in union):
            raise InputError("a union of tensors that are in no row", path=dump.path)
    return dump


def somas_graph(dump: SomasDump, *, aligned: bool = True) -> Graph:
    """
    The problem that SOMAS solved as a graph, with its streams, unions and workspaces.

    Sizes are those SOMAS aligned to, or the original ones. Dtypes and shapes are not in the dump: tensors are bytes.
    What SOMAS allocates elsewhere (graph outputs) has no bytes.
    """
    builder = GraphBuilder()
    parameters = {
        number: builder.tensor(name, (size,), "uint8", size, TensorKind.WEIGHT)
        for number, (name, size) in sorted(dump.parameters.items())
    }
    tensors = {}
    for number, tensor in sorted(dump.tensors.items()):
        size = tensor.aligned_size if aligned or not tensor.aligned_size else tensor.original_size
        kind = TensorKind.WORKSPACE if tensor.type == "Workspace" else TensorKind.ACTIVATION
        tensors[number] = builder.tensor(f"{tensor.node}:{number}", (size,), "uint8", size, kind)
    for union in dump.unions:
        for other in union[1:]:
            builder.share(tensors[union[0]], tensors[other])
    step_of = {node.id: step for step, node in enumerate(dump.nodes)}
    for node in dump.nodes:
        after = tuple(sorted(step_of[item] for item in node.after if item in step_of))
        builder.op(
            node.name,
            node.name.rsplit("/", 1)[-1].rsplit("-op", 1)[0],
            [*(tensors[item] for item in node.inputs), *(parameters[item] for item in node.parameters)],
            [tensors[item] for item in (*node.outputs, *node.workspace)],
            stream=node.stream,
            attrs={"after": after} if after else None,
        )
    return builder.finish("somas", (), (), origin=dump.path, producer="MindSpore SOMAS")


def offsets_by_storage(dump: SomasDump, graph: Graph) -> dict[int, int]:
    """
    The address SOMAS gave to each storage of `somas_graph(dump)`; storages it allocated elsewhere are left out.

    Raises `InputError` when tensors that share their bytes were given different addresses.
    """
    first = len(dump.parameters)
    found: dict[int, int] = {}
    for place, (_, tensor) in enumerate(sorted(dump.tensors.items())):
        if not tensor.aligned_size:
            continue
        root = graph.tensors[first + place].storage
        if found.setdefault(root, tensor.offset) != tensor.offset:
            raise InputError("tensors of one union have different offsets", path=dump.path, place=f"%{tensor.id}T")
    return found


_CACHE_FIELDS = ("tensor_id", "size", "ori_size", "lifelong_value", "life_start", "life_end", "offset")


@dataclass(frozen=True, slots=True)
class SomasCache:
    """What the JSON cache keeps of an answer: tensors by id, in bytes, and the memory used in all."""

    path: str
    graph_id: int
    total: int
    tensors: tuple[SomasTensor, ...]


def parse_somas_cache(document: object, path: str | Path) -> SomasCache:
    """The JSON cache of one graph; raises `InputError` naming the field that is wrong."""
    if not isinstance(document, dict) or not isinstance(document.get("tensors"), list):
        raise InputError("this is not a SOMAS cache", path=path, remedy="name somas_graph_*.json")
    rows = []
    for row, entry in enumerate(document["tensors"]):
        found = [entry.get(field) if isinstance(entry, dict) else None for field in _CACHE_FIELDS]
        values = [value for value in found if isinstance(value, int) and not isinstance(value, bool) and value >= 0]
        if len(values) != len(_CACHE_FIELDS):
            raise InputError("a tensor without its numbers", path=path, place=f"tensors[{row}]")
        number, size, original, lifelong, start, end, offset = values
        rows.append(SomasTensor(number, size, original, offset, "", str(lifelong), start, end, ""))
    total = document.get("reused_memory_size")
    graph = document.get("graph_id", 0)
    if not isinstance(total, int) or not isinstance(graph, int):
        raise InputError("the total is missing", path=path, place="reused_memory_size")
    return SomasCache(str(path), graph, total, tuple(rows))
