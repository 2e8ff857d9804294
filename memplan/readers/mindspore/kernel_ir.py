"""
MindSpore's text IR (`graph_build_*.ir`, `*_execute_*.ir` and the other dumps of `save_graphs`) as a program.

What comes out is the same `Program` that a MindIR file decodes to, so both unfold by the same rules. The text adds
the user's source lines, the layouts chosen for the device and the sub-graphs that graph-kernel fusion made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.readers.mindir.decode import (
    MONAD,
    Function,
    FunctionConstant,
    Literal,
    Node,
    ScalarType,
    TensorConstant,
    TensorType,
    ValueType,
)
from memplan.readers.mindir.program import Parameter, Program
from memplan.readers.mindspore.ir_text import TextValue, parse_argument, split_top, value_type_of

KERNEL_IR_MARK = "# IR entry: @"

_PARAMETER = re.compile(r"%(para\d+)_(\S*): (<.*)$")
_REFERENCE = re.compile(r"%(para\d+)_")
_SUBGRAPH = re.compile(r"subgraph @(\S+?)\((.*)\) ?(?:\[.*\] ?)?\{$")
_NODE = re.compile(r"  %(\d+)\((.*?)\) = (.*)$")
_RETURN = re.compile(r"  Return(\(.*)$")
_SCOPE = re.compile(r"\s+# Fullname with scope: \((.*)\)$")
_FILE = re.compile(r"\s+# In file (.+?):(\d+)(?:~\d+)?, ")
_LAYOUT = re.compile(r"<(\w+?)x([A-Z]\w+)(?:\[|\{|>)")
_KERNEL_GRAPH = re.compile(r"kernel_graph(\d{1,18})$")
_CONDITIONS = re.compile(r"<(?:Tuple\[)?Tensor\[Bool\](?:\*\d+)?\]?, (?:TupleShape\()?[(), ]*\)?>")
_FUNCTION_SPAN = re.compile(r"# In file .+?:\d+~\d+, ")


@dataclass(slots=True)
class _Draft:
    """A node while its lines are read."""

    name: str
    text: str
    line: int
    type: str = ""
    layout: str = ""
    scope: str = ""
    source: str | None = None


@dataclass(slots=True)
class _Block:
    """A sub-graph while its lines are read."""

    name: str
    inputs: list[str]
    attrs: dict[str, str]
    drafts: list[_Draft] = field(default_factory=list)
    result: str = ""


def parse_kernel_ir(text: str, path: str | Path) -> Program:
    """The program in a text IR dump; raises `InputError` naming the line that can't be read."""
    entry, parameters, blocks = _scan(text, path)
    if entry not in blocks:
        raise InputError("entry @{!s:.60} is not in the file", entry, path=path, remedy="dump the graph again")
    reader = _Reader(path, parameters, set(blocks))
    fused = {name: block.attrs for name, block in blocks.items() if "graph_kernel" in block.attrs}
    members = {name: _members(blocks[name]) for name in fused}
    reader.fused = {name: (attrs, members[name]) for name, attrs in fused.items()}
    functions = {name: reader.function(block) for name, block in blocks.items() if name not in fused}
    root = functions.get(entry)
    if root is None:
        raise InputError("the entry is a fused kernel", path=path)
    weights, inputs = [], []
    for name, kind, weight, label in reader.root_parameters():
        if weight and isinstance(kind, TensorType):
            weights.append(Parameter(name, label, kind))
        else:
            inputs.append((name, kind))
    root = Function(root.name, tuple(inputs), root.nodes, root.outputs, root.calls)
    functions[entry] = root
    notes = _part_of_a_program(Path(path), entry, blocks[entry])
    return Program(root, functions, reader.constants, tuple(weights), "MindSpore IR dump", notes)


def _part_of_a_program(path: Path, entry: str, block: _Block) -> tuple[str, ...]:
    """
    A note where the file holds one of several kernel graphs.

    Conditions cut a program into kernel graphs, which are dumped one a file: `graph_build_0_*.ir`, `graph_build_1_*.ir`
    and so on. One alone that returns nothing but conditions steers others as well.
    """
    match = _KERNEL_GRAPH.match(entry)
    if match is None:
        return ()
    number = int(match.group(1))
    siblings: set[str] = set()
    whole = ""
    with suppress(OSError):
        siblings = {sibling.name.split("_")[2] for sibling in path.parent.glob("graph_build_*_*.ir")}
        whole = min((sibling.name for sibling in path.parent.glob("*_execute_*.ir")), default="")
    made = {draft.name.rpartition(":")[2]: draft.type for draft in block.drafts}
    results = [made.get(part.strip(), "") for part in split_top(block.result.strip("()"))]
    decides = bool(results) and all(_CONDITIONS.fullmatch(kind) for kind in results)
    if not number and len(siblings) < 2 and not decides:
        return ()
    beside = f" ({whole} lies beside it)" if whole else ""
    of = f" of {len(siblings)} dumped here" if len(siblings) > 1 else ""
    return (
        f"kernel graph {number} alone{of}: control flow cuts a program into several kernel graphs, and this is one of "
        f"them; for the whole program name *_execute_*.ir{beside}",
    )


def _scan(text: str, path: str | Path) -> tuple[str, dict[str, tuple[str, str]], dict[str, _Block]]:
    """Entry name, lines of the root's parameters, and the sub-graphs of the file."""
    entry = ""
    parameters: dict[str, tuple[str, str]] = {}
    blocks: dict[str, _Block] = {}
    attrs: dict[str, str] = {}
    in_attrs = False
    block: _Block | None = None
    draft: _Draft | None = None
    for number, line in _statements(text):
        if block is None:
            if line.startswith(KERNEL_IR_MARK):
                entry = line[len(KERNEL_IR_MARK) :].strip()
            elif line.startswith("subgraph attr:"):
                attrs, in_attrs = {}, True
            elif line.startswith("subgraph instance:"):
                in_attrs = False
            elif match := _SUBGRAPH.match(line):
                block = _Block(match.group(1), _REFERENCE.findall(match.group(2)), attrs)
                attrs, in_attrs = {}, False
            elif in_attrs and ":" in line:
                key, _, value = line.partition(":")
                attrs[key.strip()] = value.strip()
            elif match := _PARAMETER.match(line):
                parameters[match.group(1)] = (match.group(2), match.group(3))
            continue
        if line.startswith("}"):
            if blocks.setdefault(block.name, block) is not block:
                raise InputError(
                    "two sub-graphs are called {!r:.60}", block.name, path=path, place=Sentence("line {}", (number,))
                )
            block = draft = None
        elif match := _NODE.match(line):
            draft = _Draft(f"{block.name}:%{match.group(1)}", match.group(3), number)
            block.drafts.append(draft)
        elif match := _RETURN.match(line):
            block.result, draft = match.group(1), None
        elif draft is not None:
            _annotate(draft, line)
    if block is not None:
        raise InputError("the file ends in the middle of a sub-graph", path=path, remedy="dump the graph again")
    return entry, parameters, blocks


_STARTS = ("  %", "  Return(", "      : (", "      #", "}")
"""How statements and what is said of them begin; other lines within a sub-graph go on with a constant's elements."""


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, the rows of constant tensors joined to the statement that they belong to."""
    inside = False
    begun: list[str] = []
    at = 0
    for number, line in enumerate(text.splitlines(), 1):
        if inside and begun and not line.startswith(_STARTS):
            begun.append(line)
            continue
        if begun:
            yield at, " ".join(begun)
            begun = []
        if inside and line.startswith(("  %", "  Return(")):
            begun, at = [line], number
            continue
        inside = line.startswith("subgraph @") or (inside and not line.startswith("}"))
        yield number, line
    if begun:
        yield at, " ".join(begun)


def _annotate(draft: _Draft, line: str) -> None:
    if match := _SCOPE.match(line):
        draft.scope = match.group(1)
    elif match := _FILE.match(line):
        # The innermost line of code outside of MindSpore itself; lines with a span name the function around it.
        if "/mindspore/" not in match.group(1) and not _FUNCTION_SPAN.search(line):
            draft.source = f"{match.group(1)}:{match.group(2)}"
    elif line.startswith("      : ("):
        arrow = line.rfind(") -> (")
        if arrow < 0:
            return
        result = line[arrow + len(") -> (") : -1]
        if not draft.type:
            draft.type = result
        elif not draft.layout and "x" in result:
            draft.layout = result


def _members(block: _Block) -> tuple[str, ...]:
    return tuple(_operator(draft.text)[0] for draft in block.drafts if draft.text)


def _operator(text: str) -> tuple[str, str]:
    """What a node applies, and the text from its argument list on."""
    if text.startswith("call @"):
        name, _, rest = text[len("call ") :].partition("(")
        return name, "(" + rest
    if text.startswith("%"):
        head, _, rest = text.partition("](")
        return head.split("[")[0], "(" + rest
    head, _, rest = text.partition("(")
    return head.removeprefix("PrimFunc_"), "(" + rest


class _Reader:
    """Turns drafts into nodes and collects the constants that their arguments spell out."""

    def __init__(self, path: str | Path, parameters: Mapping[str, tuple[str, str]], names: set[str]) -> None:
        self.path = path
        self.parameters = parameters
        self.names = names
        self.constants: dict[str, object] = {}
        self.fused: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {}

    def root_parameters(self) -> list[tuple[str, ValueType, bool, str]]:
        """(name, type, whether it is a weight, label) of everything the entry is given."""
        found = []
        for name, (written, text) in self.parameters.items():
            try:
                kind = value_type_of(split_top(text, " : ")[0], f"%{name}")
            except ValueError as error:
                raise InputError(str(error), path=self.path, place=f"%{name}") from None
            weight = "IsWeight: true" in text or "is_parameter" in text
            reference = re.search(r"ref_key=([^,>]+)", text)
            label = reference.group(1) if reference else written or name
            found.append((name, kind, weight, label))
        return found

    def function(self, block: _Block) -> Function:
        """A sub-graph as a function; the entry's inputs are filled in by the caller."""
        calls: set[str] = set()
        nodes = [self._checked_node(block, draft, calls) for draft in block.drafts]
        inputs = tuple((name, MONAD) for name in block.inputs)
        try:
            results = split_top(_arguments(block.result)) if block.result else []
            outputs = tuple(self._argument(block, part, calls) for part in results if part)
        except ValueError as error:
            raise InputError(str(error), path=self.path, place=Sentence("result of {}", (block.name,))) from None
        return Function(block.name, inputs, tuple(nodes), outputs, frozenset(calls))

    def _checked_node(self, block: _Block, draft: _Draft, calls: set[str]) -> Node:
        try:
            return self._node(block, draft, calls)
        except ValueError as error:
            raise InputError(str(error), path=self.path, place=Sentence("line {}", (draft.line,))) from None

    def _node(self, block: _Block, draft: _Draft, calls: set[str]) -> Node:
        operator, rest = _operator(draft.text)
        arguments = _arguments(rest)
        attrs = _attributes(rest[len(arguments) + 2 :])
        names = [self._argument(block, part, calls) for part in split_top(arguments) if part]
        primitive = True
        if operator.startswith("%"):
            operator, primitive = f"{block.name}:{operator}", False
        elif operator.startswith("@"):
            operator = operator[1:]
            if operator in self.fused:
                description, members = self.fused[operator]
                attrs.update(
                    graph_kernel=description.get("graph_kernel", ""),
                    info_name=description.get("info_name", ""),
                    members=members,
                )
                operator = "GraphKernel"
            else:
                primitive = False
                calls.add(operator)
        layouts = tuple(name for _, name in _LAYOUT.findall(draft.layout))
        kind = value_type_of(draft.type, draft.scope or draft.name) if draft.type else ScalarType("none")
        return Node(draft.name, operator, primitive, tuple(names), kind, draft.scope, attrs, draft.source, layouts)

    def _argument(self, block: _Block, text: str, calls: set[str]) -> str:
        """The name an argument goes by; spelled-out constants are entered in the table under their own text."""
        text = text.strip()
        if re.fullmatch(r"%\d+", text):
            return f"{block.name}:{text}"
        if match := _REFERENCE.match(text):
            return match.group(1)
        value = parse_argument(text)
        if isinstance(value, FunctionConstant):
            calls.add(value.graph)
        name = f"={text}"
        if isinstance(value, TextValue):
            # A tensor whose elements are not printed can't be told from another of its shape.
            name = f"={text} #{len(self.constants)}" if value.elided else name
            self.constants[name] = TensorConstant(name, TensorType(value.shape, value.dtype))
        else:
            self.constants[name] = value
        return name


def _arguments(text: str) -> str:
    """The text inside the first pair of parentheses of `text`."""
    depth, quoted = 0, False
    for place, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if not depth:
                return text[1:place]
    raise ValueError("the argument list has no end")


_KEPT = re.compile(
    r"(?:^|[{,] )(kernel_size|stride|strides|pad|pad_list|pad_mode|dilation|group|groups|axis|epsilon|format|"
    r"is_training|transpose_a|transpose_b|transpose_x1|transpose_x2|backward_prefetch|stream_id|recompute|recompute_id|unique_id|"
    r"forward_unique_id|forward_node_name): (\"[^\"]*\"|\([^()]*\)|[^,{}]+)"
)
_RENAMED = {"forward_unique_id": "forward_id", "forward_node_name": "forward_name"}


def _attributes(text: str) -> dict[str, object]:
    """The attributes behind the arguments that say something about memory or time."""
    found: dict[str, object] = {}
    for name, value in _KEPT.findall(text):
        parsed = parse_argument(value.strip())
        if isinstance(parsed, Literal):
            found[_RENAMED.get(name, name)] = parsed.value
    return found
