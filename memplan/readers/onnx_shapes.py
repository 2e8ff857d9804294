"""
Shapes of every value of an ONNX model whose inputs' shapes are known.

Exporters leave shapes out, leave them open or leave those of an earlier export in the file. What the rules of each op
say is the `onnx` package's own (`infer_node_outputs`); this goes through the nodes in order, works out the small
integer values that shapes are made of, and hands both on. Functions of the model are expanded, and of an `If` whose
condition is known the branch that runs is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from memplan.core.errors import FOREIGN_FAILURES, InputError, UnboundShapeError
from memplan.core.sentence import Sentence

if TYPE_CHECKING:
    import numpy as np

    KnownValues = dict[str, np.ndarray[Any, Any]]

_MAX_KNOWN = 1 << 16
"""Elements of the largest value that is worked out: shapes, indices and masks, no weights."""

_RANDOM = frozenset({
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip
_DATA_SIZED = frozenset({"NonZero", "Unique", "Compress", "Range"})
"""Ops whose result's size is in their inputs' values; no larger than those, but for `Range`."""


@cache
def _failures() -> tuple[type[Exception], ...]:
    """What the `onnx` package raises for nodes that it can't evaluate or infer."""
    from onnx import checker, defs, shape_inference

    return (*FOREIGN_FAILURES, checker.ValidationError, shape_inference.InferenceError, defs.SchemaError)


def dim_size(dim: Any) -> int | None:
    """The size of a dimension of an ONNX shape, `None` while it is open: named, unset or negative."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def dim_name(dim: Any) -> str:
    """The name of an open dimension; empty for none, and for what exporters write in its place, such as `?`."""
    name = str(dim.dim_param)
    return "" if name.lower() in _NO_NAMES or not any(map(str.isalnum, name)) else name


_NO_NAMES = frozenset({"none", "-1", "unk", "unknown"})


def open_shape(name: str, dims: Any) -> UnboundShapeError:
    """The refusal of value `name` whose `dims` are not all known, with the option that binds them."""
    sizes = [dim_size(dim) for dim in dims]
    place = sizes.index(None)
    label = repr(dims[place].dim_param)[:42] if dim_name(dims[place]) else str(place)
    shown = ",".join("DIM" if size is None else str(size) for size in sizes)
    return UnboundShapeError("dimension {} is open", label, place=name, suggestion=f"{name}={shown}")


def refuse_unknown_names(model: Any, shapes: Mapping[str, tuple[int, ...]], values: Iterable[str]) -> None:
    """Raise `InputError` for a name among `shapes` that is none of `values`, and name the inputs of the model."""
    weights = {item.name for item in model.graph.initializer}
    for name in shapes.keys() - set(values):
        inputs = ", ".join(item.name for item in model.graph.input if item.name not in weights) or "none"
        raise InputError("there is no input {!r:.60}", name, remedy=Sentence("inputs are {}", (inputs,)))


def with_shapes(data: bytes, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """
    The model in `data` with a shape for every value that has one, as a message of the `onnx` package.

    `shapes` binds inputs, and any other value by name whose size depends on data. Raises `InputError` for shapes that
    don't fit the model and for inputs that stay open.
    """
    import onnx
    from onnx import inliner

    model = onnx.ModelProto.FromString(data)
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except _failures() as error:
            raise InputError("its functions can't be expanded: {}", _first_line(error)) from None
    walk = _Walk(model, shapes)
    nodes = list(walk.nodes())
    refuse_unknown_names(model, shapes, walk.types.keys())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    declared = {item.name for item in (*model.graph.input, *model.graph.initializer)}
    outputs = {item.name: item for item in model.graph.output}
    del model.graph.value_info[:]
    for name, kind in walk.types.items():
        if name in outputs:
            outputs[name].type.CopyFrom(kind)
        elif name not in declared:
            model.graph.value_info.add(name=name).type.CopyFrom(kind)
    return model


class _Walk:
    """One pass over the nodes: `types` and `values` of all that is known so far."""

    def __init__(self, model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.model = model
        self.shapes = shapes
        self.opsets = {item.domain: item.version for item in model.opset_import}
        self.types: dict[str, Any] = {}
        self.values: KnownValues = {}
        self.sizes: dict[str, int] = {}
        graph = model.graph
        self.declared = {item.name: item.type for item in (*graph.value_info, *graph.output)}
        for item in graph.initializer:
            self._weight(item.name, item)
        self._bind([item for item in graph.input if item.name not in self.types])

    def _weight(self, name: str, tensor: Any) -> None:
        from onnx import helper, numpy_helper

        self.types[name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        count = 1
        for dim in tensor.dims:
            count *= dim
        if 0 <= count <= _MAX_KNOWN and not tensor.external_data:
            with suppress(*_failures()):  # its shape is what counts
                self.values[name] = numpy_helper.to_array(tensor)

    def _bind(self, inputs: list[Any]) -> None:
        """Give the inputs the shapes that `shapes` names for them, and the named dimensions their sizes."""
        by_name = {item.name: item for item in inputs}
        for name, shape in self.shapes.items():
            if name not in by_name:
                continue
            kind = by_name[name].type.tensor_type
            if not kind.HasField("shape"):
                for _ in shape:
                    kind.shape.dim.add()
            if len(kind.shape.dim) != len(shape):
                raise InputError(
                    "shape {} has not {} dimensions", shape, len(kind.shape.dim), place=Sentence("input {}", (name,))
                )
            for dim, size in zip(kind.shape.dim, shape, strict=True):
                fixed = dim_size(dim)
                if named := dim_name(dim):
                    fixed = self.sizes.setdefault(named, size)
                if fixed not in (None, size) or size < 0:
                    raise InputError("shape {} disagrees with the model", shape, place=Sentence("input {}", (name,)))
                dim.dim_value = size
        for item in inputs:
            self._fill(item.type)
            self.types[item.name] = item.type

    def _fill(self, kind: Any) -> None:
        """Put the sizes of named dimensions into a type."""
        for dim in kind.tensor_type.shape.dim:
            if dim_name(dim) in self.sizes:
                dim.dim_value = self.sizes[dim.dim_param]

    def nodes(self) -> Iterator[Any]:
        """The nodes that run, in order; those of taken branches in place of their `If`."""
        stack = list(reversed(self.model.graph.node))
        while stack:
            node = stack.pop()
            branch = self._branch(node)
            if branch is not None:
                stack.extend(reversed(branch))
                continue
            self._infer(node)
            yield node

    def _branch(self, node: Any) -> list[Any] | None:
        """The nodes that an `If` with a known condition stands for, under names that no other value has."""
        from onnx import helper

        if node.op_type != "If" or not node.input or node.input[0] not in self.values:
            return None
        wanted = "then_branch" if self.values[node.input[0]].all() else "else_branch"
        graph = next((item.g for item in node.attribute if item.name == wanted), None)
        if graph is None or len(graph.output) != len(node.output):
            return None
        prefix = f"{node.name or node.output[0]}/"
        inner = {name: prefix + name for item in graph.node for name in item.output if name}
        inner |= {item.name: prefix + item.name for item in graph.initializer}
        for item in graph.initializer:
            weight = self.model.graph.initializer.add()
            weight.CopyFrom(item)
            weight.name = inner[item.name]
            self._weight(weight.name, weight)
        for item in (*graph.value_info, *graph.output):
            self.declared[inner.get(item.name, item.name)] = item.type
        body = []
        for item in graph.node:
            copy = type(item)()
            copy.CopyFrom(item)
            _rename(copy, inner)
            body.append(copy)
        for outer, result in zip(node.output, graph.output, strict=True):
            body.append(helper.make_node("Identity", [inner.get(result.name, result.name)], [outer], name=outer))
        return body

    def _infer(self, node: Any) -> None:
        """Find the types of what `node` makes: by its rule, by its values, and where both leave it open by the file."""
        found: Mapping[str, Any] = {}
        failed = None
        try:
            found = self._by_rule(node)
        except _failures() as error:
            failed = _first_line(error)
        for name in filter(None, node.output):
            kind = self._merged(found.get(name), self.declared.get(name), self.shapes.get(name))
            if kind is not None:
                self.types[name] = kind
        self._work_out(node)
        if failed and any(name and self._count(name) is None for name in node.output):
            place = f"{node.op_type} {node.name or next(iter(node.output), '')}".strip()
            raise InputError(failed, place=place, remedy="give shapes that fit the model")

    def _by_rule(self, node: Any) -> Mapping[str, Any]:
        import onnx
        from onnx import shape_inference

        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self.opsets.get(domain, self.opsets.get("ai.onnx", 1) if not domain else 1)
        if any(name and name not in self.types for name in node.input):
            return {}
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            return {}
        from onnx import numpy_helper

        names = {name for name in node.input if name}
        captured = self.types if any(item.HasField("g") for item in node.attribute) else {}
        types = {**captured, **{name: self.types[name] for name in names}}
        known = {name: numpy_helper.from_array(self.values[name], name) for name in names if name in self.values}
        return shape_inference.infer_node_outputs(
            schema, node, types, known, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version
        )

    def _merged(self, found: Any, declared: Any, bound: tuple[int, ...] | None) -> Any:
        """What the rule found, with what it leaves open taken from the file and then from what the caller binds."""
        if found is None and declared is None:
            return None
        kind = type(declared if found is None else found)()
        kind.CopyFrom(declared if found is None else found)
        if declared is not None:
            self._fill(declared)
            self._fill_from(kind.tensor_type, declared.tensor_type)
        tensor = kind.tensor_type
        if bound is not None and tensor.elem_type:
            if not tensor.HasField("shape"):
                for _ in bound:
                    tensor.shape.dim.add()
            fits = len(bound) == len(tensor.shape.dim)
            for dim, size in zip(tensor.shape.dim, bound, strict=False):
                fits = fits and size >= 0 and dim_size(dim) in (None, size)
                dim.dim_value = size
            if not fits:
                raise InputError("shape {} disagrees with the model", bound)
        return kind

    @staticmethod
    def _fill_from(tensor: Any, declared: Any) -> None:
        if not tensor.elem_type:
            tensor.elem_type = declared.elem_type
        if not declared.HasField("shape"):
            return
        if not tensor.HasField("shape"):
            tensor.shape.CopyFrom(declared.shape)
        if len(tensor.shape.dim) == len(declared.shape.dim):
            for dim, other in zip(tensor.shape.dim, declared.shape.dim, strict=True):
                size = dim_size(other)
                if dim_size(dim) is None and size is not None:
                    dim.dim_value = size

    def _work_out(self, node: Any) -> None:
        """Find the values of what `node` makes where they are small and follow from known ones."""
        import onnx
        from onnx import helper, reference

        if node.op_type in ("Shape", "Size") and not node.domain:
            self._shape_value(node)
            return
        if node.op_type in _RANDOM or any(item.HasField("g") for item in node.attribute):
            return
        names = [name for name in node.input if name]
        if not all(name in self.values for name in names) or not (names or node.op_type == "Constant"):
            return
        made = [name for name in node.output if name]
        for name in made:
            count = self._count(name)
            if (count is None and node.op_type not in _DATA_SIZED) or (count or 0) > _MAX_KNOWN:
                return
        if node.op_type == "Range" and not self._short_range(names):
            return
        try:
            # A model around the node: given a bare node, the evaluator forgets the version of its op.
            given, wanted = (
                [helper.make_value_info(name, onnx.TypeProto()) for name in side] for side in (names, made)
            )
            graph = helper.make_graph([node], "node", given, wanted)
            model = helper.make_model(graph, opset_imports=self.model.opset_import)
            results = reference.ReferenceEvaluator(model).run(None, {name: self.values[name] for name in names})
        except _failures():
            return  # unknown values leave shapes open, and open shapes are refused
        for name, value in zip(made, results, strict=False):
            if getattr(value, "size", _MAX_KNOWN + 1) <= _MAX_KNOWN and hasattr(value, "dtype"):
                self.values[name] = value
                known = self.types.get(name)
                with suppress(*_failures()):  # a type that ONNX has no number for
                    kind = known.tensor_type.elem_type if known else helper.np_dtype_to_tensor_dtype(value.dtype)
                    self.types[name] = helper.make_tensor_type_proto(kind, value.shape)

    def _short_range(self, names: list[str]) -> bool:
        start, limit, delta = (float(self.values[name].ravel()[0]) for name in names)
        return bool(delta) and (limit - start) / delta <= _MAX_KNOWN

    def _shape_value(self, node: Any) -> None:
        import numpy as np

        sizes = [dim_size(dim) for dim in self._dims(node.input[0])]
        kind = self.types.get(node.input[0])
        if kind is None or not kind.tensor_type.HasField("shape") or None in sizes:
            return
        shape = np.array(sizes, dtype=np.int64)
        if node.op_type == "Size":
            self.values[node.output[0]] = np.array(shape.prod(), dtype=np.int64)
            return
        ends = {item.name: item.i for item in node.attribute}
        self.values[node.output[0]] = shape[ends.get("start", 0) : ends.get("end", len(sizes))]

    def _dims(self, name: str) -> Any:
        kind = self.types.get(name)
        return () if kind is None else kind.tensor_type.shape.dim

    def _count(self, name: str) -> int | None:
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        count = 1
        for dim in kind.tensor_type.shape.dim:
            size = dim_size(dim)
            if size is None:
                return None
            count *= size
        return count


def _rename(node: Any, names: Mapping[str, str]) -> None:
    """Give what `node` and the graphs in it use other names."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            for inner in graph.node:
                _rename(inner, names)
            for result in graph.output:
                result.name = names.get(result.name, result.name)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
