"""
Actor sets (`actor_set/*_actor_set_*.ir`): the kernels MindSpore's runtime runs, in order, with streams and sizes.

With SOMAS on, every output also says where SOMAS put it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import Graph, TensorKind
from memplan.readers.mindir.op_table import op_table
from memplan.readers.mindir.roles import Roles

ACTOR_SET_MARK = "[Kernel actors:"
_LARGEST, _NO_STREAM = (1 << 63) - 1, (1 << 64) - 1

_SECTION = re.compile(r"\[([A-Za-z ]+?)(?::\d+)?\]$")
_ACTOR = re.compile(r"\s*actor_name:(\S+)\tactor_id:")
_KERNEL = re.compile(r"\s*kernel_name:([^\t]+)\tstream id:(\d+)\t.*?is_launch_skipped:(\d)")
_OUTPUT = re.compile(
    r"\s*(output|workspace)_index:(\d+)\tptr:\S+\tsize:(\d+)\tstream id:(\d+)"
    r"(?:.*?is_somas_enable:(\d)\tsomas_offset:(\d+)\tsomas_aligned_size:(\d+))?"
    r"(?:.*?graph_output:(\d))?"
)
_STORE = re.compile(r"\s*device tensor key:([^\t]+)\t")
_STORE_SIZE = re.compile(r"\s*device tensor value:.*?\tsize:(\d+)\t")
_STORED = re.compile(r"\s*to_input_index:(\d+)\tfrom_node_name:([^,]+),")
_SOURCE = re.compile(r"\s*node_order_number:(\d+)\tnode_name:([^\t]+)\t.*?\tsize:(\d+)\t")
_ARROW = re.compile(r"\s*from_actor_name:(\S+)\tfrom_output_index:(\d+)\tto_input_index:(\d+)")
_CONTROL = re.compile(r"\s*from_actor_name:(\S+)\s*$")
_REF = re.compile(r"\((\d+), (\d+)\)")


@dataclass(frozen=True, slots=True)
class ActorOutput:
    """An output or workspace: bytes, and SOMAS's offset and aligned size where it was placed by SOMAS."""

    size: int
    offset: int | None
    aligned_size: int


@dataclass(slots=True)
class Actor:
    """One kernel: `sources` are (actor, output) by input, `stores` the weights and constants by input."""

    name: str
    kernel: str = ""
    stream: int = 0
    skipped: bool = False
    outputs: dict[int, ActorOutput] = field(default_factory=dict)
    workspace: list[ActorOutput] = field(default_factory=list)
    sources: dict[int, tuple[str, int]] = field(default_factory=dict)
    stores: dict[int, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    refs: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActorSet:
    """
    A whole dump: kernels in order, bytes of weights (`kept`) and of constants, what enters and what leaves the graph.

    `inputs` are (name, bytes) by (actor, output), `results` the (actor, output) that leave.
    """

    path: str
    actors: tuple[Actor, ...]
    kept: Mapping[str, int]
    constants: Mapping[str, int]
    inputs: Mapping[tuple[str, int], tuple[str, int]]
    results: tuple[tuple[str, int], ...]


def parse_actor_set(text: str, path: str | Path) -> ActorSet:
    """An actor set dump as a record; raises `InputError` when it holds no kernel."""
    actors: list[Actor] = []
    kept: dict[str, int] = {}
    constants: dict[str, int] = {}
    inputs: dict[tuple[str, int], tuple[str, int]] = {}
    results: list[tuple[str, int]] = []
    section, key, into = "", "", constants
    current = Actor("")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.startswith("["):
                found = _SECTION.match(line)
                section = found.group(1) if found else ""
                continue
            if section == "Device tensor stores":
                if match := _STORE.match(line):
                    key, into = match.group(1), constants if "backend node name:" in line else kept
                elif key and (match := _STORE_SIZE.match(line)):
                    into.setdefault(key, _whole(match.group(1)))
            elif section == "Output actor":
                if match := _ARROW.match(line):
                    results.append((match.group(1), _whole(match.group(2))))
            elif match := _ACTOR.match(line):
                current = Actor(match.group(1))
            elif match := _SOURCE.match(line):
                inputs[(current.name, _whole(match.group(1)))] = (match.group(2), _whole(match.group(3)))
            elif match := _KERNEL.match(line):
                current.kernel, current.stream = match.group(1), _whole(match.group(2), _NO_STREAM)
                current.skipped = match.group(3) == "1"
                actors.append(current)
            elif current.kernel:
                _detail(current, line)
        except ValueError as error:
            raise InputError(
                "not a row of an actor set: {}", error, path=path, place=Sentence("line {}", (number,))
            ) from None
    if not actors:
        raise InputError("this is not an actor set with kernels", path=path, remedy="name actor_set/0_actor_set_*.ir")
    return ActorSet(str(path), tuple(actors), kept, constants, inputs, tuple(results))


def _whole(digits: str, largest: int = _LARGEST) -> int:
    """The number that `digits` are; raises `ValueError` for one above the `largest`, in bytes, places or streams."""
    if len(digits) > 20 or int(digits) > largest:
        raise ValueError(f"{digits!r:.30} is no size, place or number of a stream")
    return int(digits)


def _detail(actor: Actor, line: str) -> None:
    if match := _OUTPUT.match(line):
        placed = match.group(5) == "1" and match.group(8) != "1"
        value = ActorOutput(
            _whole(match.group(3)), _whole(match.group(6)) if placed else None, _whole(match.group(7)) if placed else 0
        )
        if match.group(1) == "workspace":
            actor.workspace.append(value)
        else:
            actor.outputs[_whole(match.group(2))] = value
    elif match := _STORED.match(line):
        actor.stores[_whole(match.group(1))] = match.group(2)
    elif match := _ARROW.match(line):
        actor.sources[_whole(match.group(3))] = (match.group(1), _whole(match.group(2)))
    elif match := _CONTROL.match(line):
        actor.after.append(match.group(1))
    elif "ref index:" in line:
        actor.refs.update((_whole(output), _whole(source)) for output, source in _REF.findall(line))


@dataclass(frozen=True, slots=True)
class ActorGraph:
    """The graph of an actor set, and SOMAS's address and aligned size of each storage it placed."""

    graph: Graph
    offsets: Mapping[int, int]
    sizes: Mapping[int, int]


def actor_graph(source: ActorSet) -> ActorGraph:
    """
    The kernels as a graph in their order. Shapes and dtypes are not in the dump: tensors are bytes.

    Raises `InputError` when a kernel takes the output of one that comes later.
    """
    builder = GraphBuilder()
    roles = Roles(op_table())
    names: dict[str, int] = {}
    made: dict[tuple[str, int], int] = {}
    step_of: dict[str, int] = {}
    placed: list[tuple[int, ActorOutput]] = []
    kernels = {actor.name for actor in source.actors}
    inputs: dict[int, None] = {}

    def stored(name: str) -> int:
        if name not in names:
            kind = TensorKind.WEIGHT if name in source.kept else TensorKind.CONSTANT
            size = source.kept.get(name, source.constants.get(name, 0))
            names[name] = builder.tensor(name, (size,), "uint8", size, kind)
            if kind is TensorKind.WEIGHT:
                roles.parameter(names[name], name)
        return names[name]

    def produced(actor: Actor, key: tuple[str, int]) -> int:
        if key not in made:
            if key[0] in kernels:
                raise InputError("{} runs after {}, which needs it", key[0], actor.name, path=source.path)
            label, size = source.inputs.get(key, (f"{key[0]}:{key[1]}", 0))
            made[key] = builder.tensor(label, (size,), "uint8", size, TensorKind.INPUT)
            inputs[made[key]] = None
        return made[key]

    for actor in source.actors:
        arguments = {position: stored(name) for position, name in actor.stores.items()}
        arguments.update({position: produced(actor, key) for position, key in actor.sources.items()})
        outputs = []
        for position, output in sorted(actor.outputs.items()):
            tensor = builder.tensor(f"{actor.kernel}:{position}", (output.size,), "uint8", output.size)
            made[(actor.name, position)] = tensor
            outputs.append(tensor)
            placed.append((tensor, output))
        for position, argument in (actor.refs or ({0: 0} if actor.skipped else {})).items():
            if position < len(outputs) and argument in arguments:
                builder.share(arguments[argument], outputs[position])
        for number, space in enumerate(actor.workspace):
            scratch = builder.tensor(
                f"{actor.kernel}:workspace{number}", (space.size,), "uint8", space.size, TensorKind.WORKSPACE
            )
            outputs.append(scratch)
            placed.append((scratch, space))
        step_of[actor.name] = len(builder.ops)
        kind = actor.kernel.rsplit("/", 1)[-1].rsplit("-op", 1)[0]
        ordered = [arguments[position] for position in sorted(arguments)]
        after = tuple(sorted(step_of[name] for name in actor.after if name in step_of))
        builder.op(
            actor.kernel,
            kind,
            ordered,
            outputs,
            stream=actor.stream,
            launches=not actor.skipped,
            attrs={"after": after} if after else None,
        )
        table = roles.table
        named = {table.argument(kind, position): tensor for position, tensor in arguments.items()}
        roles.op(kind, actor.kernel, not actor.skipped, ordered, named)
    roles.classify(builder)
    results = [made[key] for key in source.results if key in made]
    graph = builder.finish(
        "kernel graph", inputs, dict.fromkeys(results), origin=source.path, producer="MindSpore runtime"
    )
    offsets: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for tensor, output in placed:
        root = graph.tensors[tensor].storage
        if output.offset is None or not output.aligned_size or graph.tensors[root].kind.persistent:
            continue
        if offsets.setdefault(root, output.offset) != output.offset:
            raise InputError("tensors that share their bytes have different offsets", path=source.path)
        sizes[root] = max(sizes.get(root, 0), output.aligned_size)
    return ActorGraph(graph, offsets, sizes)
