"""
Programs that `torch.export.save` wrote (`.pt2`), read from the archive without PyTorch.

The archive is a zip with `models/*.json`: nodes in execution order and every tensor with its sizes and strides, by the
schema of `torch/_export/serde/schema.py` (version 8). Nothing else in it is opened: weights stay where they are, and
sample inputs, which are pickles, are never loaded.
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, UnboundShapeError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import Graph, TensorKind, dense_bytes
from memplan.readers.pytorch.aten import TORCH_DTYPES, aten_table, contiguous_strides

_MAX_JSON = 512 * 1024**2
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
    31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
}  # fmt: skip
"""`ScalarType` of the schema."""
_WRAPPERS = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "hints_wrapper")
"""Higher-order ops that only run a graph of their own under other settings."""
_REMEDY = "save it again with torch.export.save"


def read_torch_export(
    path: str | Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None, progress: Progress = silent
) -> Graph:
    """
    The graph of the exported program in the archive `path`, in the order in which it runs.

    `shapes` binds inputs with open dimensions. Raises `InputError` for archives that hold none, for control flow and
    for sizes that depend on data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if "/models/" in name and name.endswith(".json")]
            if len(members) != 1:
                raise InputError(
                    "this archive holds {} exported programs, not one",
                    len(members),
                    path=path,
                    remedy="save one with torch.export.save",
                )
            if archive.getinfo(members[0]).file_size > _MAX_JSON:
                raise InputError("its program is too large to be read", path=path)
            document = json.loads(archive.read(members[0]))
    except (zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError, EOFError, OSError):
        raise InputError("this is no archive of torch.export, or it is cut off", path=path, remedy=_REMEDY) from None
    try:
        return _Program(document, str(path), shapes or {}).graph(progress)
    except InputError as error:
        raise error.of(path) from None
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            "the program has not the form that is known: {!s:.80}", error, path=path, remedy=_REMEDY
        ) from None


class _Program:
    def __init__(self, document: Any, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.module = document["graph_module"]
        self.path = path
        self.producer = f"PyTorch {document.get('torch_version') or ''}".strip()
        self.builder = GraphBuilder()
        self.values: dict[str, Any] = dict(self.module["graph"]["tensor_values"])
        self.tensors: dict[str, int] = {}
        self.strides: dict[int, tuple[int, ...]] = {}
        self.symbols: dict[str, int] = {}
        self.input_names = [
            spec["user_input"]["arg"]["as_tensor"]["name"]
            for spec in self.module["signature"]["input_specs"]
            if "as_tensor" in spec.get("user_input", {}).get("arg", {})
        ]
        self._bind(shapes)

    def _bind(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            if name not in self.input_names:
                known = ", ".join(self.input_names) or "none"
                raise InputError("there is no input {!r:.60}", name, remedy=Sentence("inputs are {}", (known,)))
            sizes = self.values[name]["sizes"]
            if len(sizes) != len(shape):
                raise InputError(
                    "shape {} has not {} dimensions", shape, len(sizes), place=Sentence("input {}", (name,))
                )
            for size, given in zip(sizes, shape, strict=True):
                fixed = size.get("as_int")
                symbol = None if fixed is not None else _symbol(size["as_expr"]["expr_str"])
                if symbol is not None:
                    fixed = self.symbols.setdefault(symbol, given)
                if (fixed is not None and fixed != given) or given < 0:
                    raise InputError("shape {} disagrees with the program", shape, place=Sentence("input {}", (name,)))

    def _size(self, size: Any, name: str) -> int:
        if "as_int" in size:
            return int(size["as_int"])
        text = size["as_expr"]["expr_str"]
        try:
            return evaluate_size(text, self.symbols)
        except KeyError:
            raise self._open(name) from None
        except (ValueError, SyntaxError, ZeroDivisionError, RecursionError):
            raise InputError("the size {!r:.60} can't be worked out", text, place=name) from None

    def _open(self, name: str) -> InputError:
        for given in (name, *self.input_names):
            if given in self.input_names and any("as_int" not in size for size in self.values[given]["sizes"]):
                shown = ",".join(str(size.get("as_int", "DIM")) for size in self.values[given]["sizes"])
                return UnboundShapeError("its shape has open dimensions", place=name, suggestion=f"{given}={shown}")
        return InputError("its size depends on data", place=name, remedy="export the program without it")

    def _tensor(self, name: str, kind: TensorKind, label: str | None = None) -> int:
        meta = self.values[name]
        shape = tuple(self._size(size, name) for size in meta["sizes"])
        dtype = TORCH_DTYPES[_DTYPES.get(meta["dtype"], "")] if meta["dtype"] in _DTYPES else None
        if dtype is None:
            raise InputError("element type {} is unknown", meta["dtype"], place=name)
        if any(size < 0 for size in shape):
            raise InputError("shape {}", shape, place=name)
        index = self.builder.tensor(label or name, shape, dtype, dense_bytes(shape, dtype), kind)
        self.strides[index] = tuple(self._size(size, name) for size in meta["strides"])
        self.tensors[name] = index
        return index

    def graph(self, progress: Progress) -> Graph:
        inputs: list[int] = []
        for spec in self.module["signature"]["input_specs"]:
            kind, body = next(iter(spec.items()))
            if kind == "user_input":
                inputs += [self._tensor(name, TensorKind.INPUT) for name in _tensor_names(body["arg"])]
            elif kind in ("parameter", "buffer", "tensor_constant"):
                role = TensorKind.CONSTANT if kind == "tensor_constant" else TensorKind.WEIGHT
                self._tensor(body["arg"]["name"], role, body.get(f"{kind}_name"))
        self._nodes(self.module["graph"], progress)
        outputs = [self.tensors[name] for part in self.module["graph"]["outputs"] for name in _tensor_names(part)]
        name = Path(self.path).stem
        return self.builder.finish(name, inputs, dict.fromkeys(outputs), origin=self.path, producer=self.producer)

    def _nodes(self, graph: Any, progress: Progress) -> None:
        total = len(graph["nodes"])
        for done, node in enumerate(graph["nodes"]):
            if done % 1024 == 0:
                progress(done, total, "nodes read")
            self._node(node)

    def _node(self, node: Any) -> None:
        space, _, rest = node["target"].removeprefix("torch.ops.").partition(".")
        name = rest.partition(".")[0]
        arguments = [(item["name"], item["arg"]) for item in node["inputs"]]
        scope = _scope(node)
        subgraphs = [arg["as_graph"] for _, arg in arguments if "as_graph" in arg]
        if subgraphs:
            self._wrapped(name or node["target"], arguments, subgraphs, node, scope)
            return
        if not node["target"].startswith("torch.ops."):
            for part in node["outputs"]:
                if list(_tensor_names(part)):
                    raise InputError("{!r:.60} makes a tensor in an unknown way", node["target"], place=scope)
            return  # arithmetic on sizes
        inputs = [self.tensors[used] for _, arg in arguments for used in _tensor_names(arg)]
        attrs = {label: value for label, arg in arguments if (value := _plain(arg)) is not None}
        outputs = []
        for part in node["outputs"]:
            for made in _tensor_names(part):
                if made in self.tensors:  # an in-place op names its operand
                    continue
                outputs.append(self._tensor(made, TensorKind.ACTIVATION))
        launches = True
        if inputs and outputs and space == "aten":
            launches = not self._is_view(name, inputs[0], outputs, attrs)
            if not launches or (name.endswith("_") and not name.endswith("__")):
                for result in outputs:
                    self.builder.share(inputs[0], result)
        self.builder.op(
            f"{scope}/{node.get('name') or name}" if scope else node.get("name") or name,
            aten_table().op_type(name), inputs, outputs, launches=launches, attrs=attrs, source=_source(node),
        )  # fmt: skip

    def _is_view(self, name: str, source: int, outputs: list[int], attrs: Mapping[str, object]) -> bool:
        """Whether all results occupy bytes of `source`: by what the op is, or because nothing has to be copied."""
        builder = self.builder
        if name in aten_table().views:
            return True
        if (
            name not in aten_table().maybe_views
            or len(outputs) != 1
            or builder.dtypes[source] != builder.dtypes[outputs[0]]
        ):
            return False
        if "dropout" in name and attrs.get("train", True):
            return False
        made = outputs[0]
        if builder.shapes[made] == builder.shapes[source]:
            return self.strides[made] == self.strides[source]
        return self.strides[source] == contiguous_strides(builder.shapes[source]) and prod(
            builder.shapes[source]
        ) == prod(builder.shapes[made])

    def _wrapped(self, name: str, arguments: list[Any], subgraphs: list[Any], node: Any, scope: str) -> None:
        """Run the graph of a wrapper in place; raises for control flow."""
        if name not in _WRAPPERS or len(subgraphs) != 1:
            raise InputError(
                "{} holds graphs of its own, and which runs is decided while it runs", name, place=scope or name,
                remedy="export the model without control flow",
            )  # fmt: skip
        graph = subgraphs[0]["graph"]
        operands = [used for _, arg in arguments if "as_graph" not in arg for used in _tensor_names(arg)]
        inner = [made for part in graph["inputs"] for made in _tensor_names(part)]
        self.values.update(graph["tensor_values"])
        for given, taken in zip(operands, inner, strict=True):
            self.tensors[taken] = self.tensors[given]
        for part in graph["nodes"]:
            self._node(part)
        results = [made for part in graph["outputs"] for made in _tensor_names(part)]
        wanted = [made for part in node["outputs"] for made in _tensor_names(part)]
        for given, taken in zip(results, wanted, strict=True):
            self.tensors[taken] = self.tensors[given]


def _tensor_names(arg: Any) -> Iterator[str]:
    """Names of the tensors in an argument."""
    if not isinstance(arg, dict):
        return
    for kind, value in arg.items():
        if kind == "as_tensor":
            yield value["name"]
        elif kind == "as_tensors":
            yield from (item["name"] for item in value)
        elif kind in ("as_optional_tensor", "as_optional_tensors"):
            for item in value if isinstance(value, list) else [value]:
                yield from _tensor_names(item)
        elif kind == "as_nested_tensors":
            yield from (item["name"] for part in value for item in part)


_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")


def _plain(arg: Any) -> object:
    for kind in _PLAIN:
        if kind in arg:
            value = arg[kind]
            return tuple(value) if isinstance(value, list) else value
    return None


def _scope(node: Any) -> str:
    """The module that the op runs in, as `layers/0/attention`."""
    stack = str(node.get("metadata", {}).get("nn_module_stack", "")).split(";")
    parts = stack[-1].split(",")
    return parts[1].replace(".", "/") if len(parts) > 2 else ""


def _source(node: Any) -> str | None:
    """The line of the model's code: the outermost one that is not PyTorch's."""
    for line in str(node.get("metadata", {}).get("stack_trace", "")).splitlines():
        parts = line.strip().split('"')
        if line.strip().startswith("File ") and len(parts) > 2 and "/torch/" not in parts[1]:
            number = parts[2].removeprefix(", line ").partition(",")[0]
            return f"{parts[1]}:{number}" if number.isdigit() else None
    return None


def _symbol(text: str) -> str | None:
    """The name of a size that is a symbol and nothing else: `s77`, or `Symbol('s77', ...)` as sympy writes it."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "Symbol" and tree.args:
        first = tree.args[0]
        return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    return None


def evaluate_size(text: str, symbols: Mapping[str, int]) -> int:
    """
    The size that an expression of sympy stands for: `Mul(Integer(2), Symbol('s0', ...))` or `2*s0`.

    Numbers, symbols, sums, products, powers, divisions, minimum and maximum are understood; nothing is executed. Raises
    `KeyError` for a symbol that has no value, `ValueError` for anything else.
    """
    return _evaluated(ast.parse(text, mode="eval").body, symbols)


def _evaluated(tree: ast.expr, symbols: Mapping[str, int]) -> int:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.Name):
        return symbols[tree.id]
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -_evaluated(tree.operand, symbols)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        return _calculated(_OPERATORS[type(tree.op)], [_evaluated(side, symbols) for side in (tree.left, tree.right)])
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        if tree.func.id == "Symbol" and tree.args and isinstance(tree.args[0], ast.Constant):
            return symbols[str(tree.args[0].value)]
        return _calculated(tree.func.id, [_evaluated(part, symbols) for part in tree.args])
    raise ValueError(type(tree).__name__)


_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.FloorDiv: "FloorDiv", ast.Mod: "Mod", ast.Pow: "Pow"}
_LARGEST_POWER = 64


def _calculated(name: str, values: list[int]) -> int:
    if name == "Integer" and len(values) == 1:
        return values[0]
    if name == "Add":
        return sum(values)
    if name == "Mul":
        return prod(values)
    if name == "Max":
        return max(values)
    if name == "Min":
        return min(values)
    first, second = values
    if name == "Sub":
        return first - second
    if name in ("FloorDiv", "CleanDiv", "IntTrueDiv"):
        return first // second
    if name in ("Mod", "PythonMod"):
        return first % second
    if name in ("Pow", "PowByNatural") and 0 <= second <= _LARGEST_POWER:
        return int(first**second)
    raise ValueError(name)
