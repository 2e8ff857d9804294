"""Random programs for the tests: ops, views, in-place writes, tuples, calls, conditions and loops."""

from __future__ import annotations

from hypothesis import strategies as st

from memplan.readers.mindir.decode import (
    CLOSURE,
    Function,
    FunctionConstant,
    Literal,
    Node,
    SequenceType,
    TensorType,
    ValueType,
)
from memplan.readers.mindir.program import Parameter, Program

BIT = TensorType((1,), "uint8")


class Maker:
    """Builds one program from the choices that hypothesis draws."""

    def __init__(self, draw: st.DrawFn, control_flow: bool) -> None:
        self.draw = draw
        self.control_flow = control_flow
        self.functions: dict[str, Function] = {}
        self.constants: dict[str, object] = {"zero": Literal(0), "one": Literal(1)}
        self.parameters = tuple(
            Parameter(f"root:w{number}", f"w{number}", self.size()) for number in range(draw(st.integers(1, 2)))
        )
        self.count = 0

    def size(self) -> TensorType:
        """A tensor of a few bytes; powers of two, so that sums tell which are in them."""
        return TensorType((2 ** self.draw(st.integers(0, 10)),), "uint8")

    def program(self) -> Program:
        """A whole program."""
        inputs = tuple((f"root:x{number}", self.size()) for number in range(self.draw(st.integers(1, 2))))
        known: dict[str, TensorType] = dict(inputs)
        known.update({parameter.name: parameter.type for parameter in self.parameters})
        root = self.function("root", inputs, known, depth=0)
        names = frozenset(self.functions)
        self.constants.update({name: FunctionConstant(name) for name in names if name != "root"})
        return Program(root, self.functions, self.constants, self.parameters, "test")

    def function(
        self,
        name: str,
        inputs: tuple[tuple[str, ValueType], ...],
        known: dict[str, TensorType],
        depth: int,
        result: TensorType | None = None,
    ) -> Function:
        """A function over `known` values that ends in one op on some of them, of type `result` if given."""
        nodes: list[Node] = []
        calls: set[str] = set()
        for _ in range(self.draw(st.integers(1, 5 if depth == 0 else 3))):
            self.statement(name, nodes, known, calls, depth)
        if result is None:
            output = self.op(name, nodes, known, self.size(), "Op")
        elif self.draw(st.booleans()) and any(kind == result for kind in known.values()):
            output = self.draw(st.sampled_from(sorted(key for key, kind in known.items() if kind == result)))
        else:
            output = self.op(name, nodes, known, result, "Op")
        function = Function(name, inputs, tuple(nodes), (output,), frozenset(calls))
        self.functions[name] = function
        return function

    def fresh(self, owner: str, label: str) -> str:
        """A name nothing else has."""
        self.count += 1
        return f"{owner}:{label}{self.count}"

    def node(self, owner: str, target: str, inputs: list[str], kind: ValueType, *, primitive: bool = True) -> Node:
        """A node whose scope is as unique as its name."""
        name = self.fresh(owner, target if primitive else "call")
        return Node(name, target, primitive, tuple(inputs), kind, f"S/{name}", {})

    def pick(self, known: dict[str, TensorType]) -> str:
        """Any value known so far."""
        return self.draw(st.sampled_from(sorted(known)))

    def op(self, owner: str, nodes: list[Node], known: dict[str, TensorType], kind: TensorType, target: str) -> str:
        """An op on one to three values."""
        inputs = [self.pick(known) for _ in range(self.draw(st.integers(1, 3)))]
        node = self.node(owner, target, inputs, kind)
        nodes.append(node)
        known[node.name] = kind
        return node.name

    def statement(
        self, owner: str, nodes: list[Node], known: dict[str, TensorType], calls: set[str], depth: int
    ) -> None:
        """One more node, or a condition, loop or call with its functions."""
        kinds = ["op", "op", "view", "write", "tuple", "call"]
        if self.control_flow and depth < 2:
            kinds += ["if", "while"]
        choice = self.draw(st.sampled_from(kinds))
        if choice == "op" or (choice == "call" and depth >= 2):
            self.op(owner, nodes, known, self.size(), "Op")
        elif choice == "view":
            source = self.pick(known)
            node = self.node(owner, "Reshape", [source, "zero"], known[source])
            nodes.append(node)
            known[node.name] = known[source]
        elif choice == "write":
            places = [name for name in known if ":w" in name]
            if places:
                place = self.draw(st.sampled_from(sorted(places)))
                node = self.node(owner, "Assign", [place, self.pick(known)], known[place])
                nodes.append(node)
                known[node.name] = known[place]
        elif choice == "tuple":
            items = [self.pick(known), self.pick(known)]
            pair = self.node(owner, "MakeTuple", items, SequenceType((known[items[0]], known[items[1]])))
            taken = self.draw(st.integers(0, 1))
            item = self.node(owner, "TupleGetItem", [pair.name, ("zero", "one")[taken]], known[items[taken]])
            nodes += [pair, item]
            known[item.name] = known[items[taken]]
        else:
            self.compound(choice, owner, nodes, known, calls, depth)

    def compound(
        self, choice: str, owner: str, nodes: list[Node], known: dict[str, TensorType], calls: set[str], depth: int
    ) -> None:
        """A call, a condition or a loop, whose result becomes known."""
        if choice == "call":
            given = [self.pick(known) for _ in range(self.draw(st.integers(1, 2)))]
            name = self.fresh("f", "call").replace(":", "")
            self.sub(name, [known[item] for item in given], depth + 1)
            kind = self.result_type(name)
            call = self.node(owner, name, given, kind, primitive=False)
            calls.add(name)
        elif choice == "if":
            given = [self.pick(known) for _ in range(self.draw(st.integers(1, 2)))]
            kind = self.draw(st.sampled_from([known[given[0]], self.size()]))
            arms = []
            for label in ("then", "else"):
                name = self.fresh("f", label).replace(":", "")
                self.sub(name, [known[item] for item in given], depth + 1, kind)
                arm = self.node(owner, "Partial", [name, *given], CLOSURE)
                nodes.append(arm)
                arms.append(arm.name)
                calls.add(name)
            condition = self.op(owner, nodes, known, BIT, "Op")
            switch = self.node(owner, "Switch", [condition, *arms], CLOSURE)
            nodes.append(switch)
            call = self.node(owner, switch.name, [], kind, primitive=False)
        else:
            given = [self.pick(known) for _ in range(self.draw(st.integers(1, 3)))]
            head, kind = self.loop([known[item] for item in given], depth + 1)
            call = self.node(owner, head, given, kind, primitive=False)
            calls.add(head)
        nodes.append(call)
        assert isinstance(kind, TensorType)
        known[call.name] = kind

    def result_type(self, name: str) -> TensorType:
        """The type of what a function returns."""
        function = self.functions[name]
        kinds = {node.name: node.type for node in function.nodes}
        kinds.update(dict(function.inputs))
        kind = kinds[function.outputs[0]]
        assert isinstance(kind, TensorType)
        return kind

    def sub(self, name: str, kinds: list[TensorType], depth: int, result: TensorType | None = None) -> None:
        """A function of its own over arguments of `kinds`."""
        inputs = tuple((f"{name}:a{number}", kind) for number, kind in enumerate(kinds))
        self.function(name, inputs, dict(inputs), depth, result)

    def loop(self, kinds: list[TensorType], depth: int) -> tuple[str, TensorType]:
        """Head, body and exit of a loop that carries values of `kinds`; returns the head and the result's type."""
        base = self.fresh("f", "loop").replace(":", "")
        head, body, leave = f"{base}head", f"{base}body", f"{base}leave"
        self.sub(leave, kinds, depth + 1)
        kind = self.result_type(leave)
        inputs = tuple((f"{body}:a{number}", item) for number, item in enumerate(kinds))
        known: dict[str, TensorType] = dict(inputs)
        nodes: list[Node] = []
        calls = {head}
        for _ in range(self.draw(st.integers(1, 3))):
            self.statement(body, nodes, known, calls, depth + 1)
        carried = []
        for item in kinds:
            same = sorted(name for name, found in known.items() if found == item)
            made = self.draw(st.booleans())
            carried.append(self.op(body, nodes, known, item, "Op") if made else self.draw(st.sampled_from(same)))
        back = self.node(body, head, carried, kind, primitive=False)
        nodes.append(back)
        self.functions[body] = Function(body, inputs, tuple(nodes), (back.name,), frozenset(calls))
        arguments = [f"{head}:a{number}" for number in range(len(kinds))]
        test = self.node(head, "Op", arguments[:1], BIT)
        on = self.node(head, "Partial", [body, *arguments], CLOSURE)
        off = self.node(head, "Partial", [leave, *arguments], CLOSURE)
        switch = self.node(head, "Switch", [test.name, on.name, off.name], CLOSURE)
        call = self.node(head, switch.name, [], kind, primitive=False)
        self.functions[head] = Function(
            head,
            tuple(zip(arguments, kinds, strict=True)),
            (test, on, off, switch, call),
            (call.name,),
            frozenset({body, leave}),
        )
        return head, kind


@st.composite
def programs(draw: st.DrawFn, *, control_flow: bool = True) -> Program:
    """Any small program."""
    return Maker(draw, control_flow).program()


def written(program: Program) -> str:
    """A program as text, for the report of a failing test."""
    lines = [f"parameters {[(item.name, item.type.shape[0]) for item in program.parameters]}"]
    for function in program.functions.values():
        lines.append(f"{function.name}{[name for name, _ in function.inputs]}")
        for node in function.nodes:
            size = node.type.shape[0] if isinstance(node.type, TensorType) else "-"
            lines.append(f"    {node.name} = {node.target}{list(node.inputs)} [{size}]")
        lines.append(f"    -> {function.outputs[0]}")
    return "\n".join(lines)
