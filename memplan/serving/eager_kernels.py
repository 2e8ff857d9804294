"""What an eager framework launches for an op of a plan, and how long its host takes for a launch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.cost import Kernel, Machine, Operand, kernel_cost
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.limits import KernelCost
from memplan.graph import Graph, Op
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.schema import Source


@dataclass(frozen=True, slots=True)
class EagerHost:
    """
    Nanoseconds of the host of a training framework.

    `forward_launch_ns` and `backward_launch_ns` for a kernel of these ways, `update_launch_ns` in loops over weights,
    `report_ns` for what is printed and exchanged once a step when its work is done.
    """

    forward_launch_ns: float
    backward_launch_ns: float
    update_launch_ns: float
    report_ns: float
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class BesideProducts:
    """How much longer exchanges take beside products, and into how many pieces kernels of both cut them at most."""

    growth: float
    most_pieces: int


def beside_products(engine: str) -> BesideProducts | None:
    """How exchanges and products of `engine` run side by side, `None` where they don't."""
    entry = _engine(engine).get("beside_products")
    return None if entry is None else BesideProducts(float(entry["growth"]), int(entry["most_pieces"]))


def _engine(name: str) -> Mapping[str, Any]:
    known: Mapping[str, Any] = table("memplan.serving", "eager.json")["engines"]
    if name not in known:
        raise InputError(
            "no engine of training is called {!r:.40}", name, remedy=Sentence("known: {}", (", ".join(known),))
        )
    found: Mapping[str, Any] = known[name]
    return {**known[found["like"]], **found} if "like" in found else found


def eager_host(engine: str) -> EagerHost:
    """The host of `engine`; raises `InputError` naming the engines for one that is not known."""
    entry = _engine(engine)
    values = {name: float(item["value"]) for name, item in entry["host"].items()}
    sources = tuple(
        Source(f"{engine}: {name} = {item['value']:g}", item["source"]) for name, item in entry["host"].items()
    )
    return EagerHost(**values, sources=(Source(f"{engine}: kernels of an op", entry["source"]), *sources))


def trained_interval(engine: str, model: ModelConfig, layout: Layout) -> tuple[float, float]:
    """
    Measured over predicted time of a step: about four of five public ones of its kind lie between.

    A step of experts has all that a dense one of its layout has and theirs besides, so that its interval holds that of
    the dense one: of the few public steps of experts nearly all are slower than predicted, which says nothing of
    quicker ones.
    """
    dense = "context" if layout.context > 1 else "tensor" if layout.tensor > 1 else "alone"
    kinds = (dense,) if model.experts is None else (dense, "experts")
    lows, highs = zip(*(_engine(engine)["intervals"][kind] for kind in kinds), strict=True)
    return float(min(lows)), float(max(highs))


def eager_costs(engine: str, op: Op, graph: Graph, cost: KernelCost, machine: Machine) -> list[KernelCost]:
    """Costs of the kernels that `engine` launches for `op`, whose own kernel costs `cost`."""
    entry = _engine(engine)["ops"].get(op.type)
    if entry is None or op_phase(op) not in entry.get("phases", (op_phase(op),)):
        return [cost]
    made = _launched(engine, kernel_of_op(op, graph), machine)
    return list(made) if "instead" in entry else [cost, *made]


@lru_cache(maxsize=65536)
def _launched(engine: str, own: Kernel, machine: Machine) -> tuple[KernelCost, ...]:
    """What `engine` launches instead of a kernel or beside it, once for equal ones."""
    entry = _engine(engine)["ops"][own.type]
    return tuple(_made(entry.get("instead", ()) or entry["beside"], own, machine))


def kernels_in_steps(engine: str, name: str, own: Kernel, parts: int) -> list[Kernel] | None:
    """
    What `engine` launches by its list `name` for a kernel that it has no fused form of, `None` where it has one.

    Operands with `/part` are one of so many `parts` of the rows.
    """
    entry = _engine(engine).get(name, {}).get(own.type)
    if entry is None:
        return None
    return [
        Kernel(kind, _operands(inputs, own, parts), _operands(outputs, own, parts))
        for kind, inputs, outputs in entry
        if all(_exists(word, own) for word in (*inputs, *outputs))
    ]


def listed_costs(engine: str, name: str, own: Kernel, machine: Machine) -> list[KernelCost]:
    """Costs of what `engine` launches as `name` behind a kernel, from the operands of that one."""
    return _made(_engine(engine).get("behind", {}).get(f"{name} {own.type}", ()), own, machine)


def _made(listed: Iterable[tuple[str, list[str], list[str]]], own: Kernel, machine: Machine) -> list[KernelCost]:
    """Costs of the `listed` kernels whose operands `own` has."""
    return [
        kernel_cost(Kernel(kind, _operands(inputs, own), _operands(outputs, own)), machine)
        for kind, inputs, outputs in listed
        if all(_exists(word, own) for word in (*inputs, *outputs))
    ]


def op_phase(op: Op) -> str:
    """The phase of a step that `op` belongs to, empty where none is told."""
    return "" if op.scope is None else op.scope.phase


def host_waits(engine: str, op: Op) -> bool:
    """Whether the host of `engine` reads what was computed before `op`, and launches nothing until it has."""
    return bool(_engine(engine)["ops"].get(op.type, {}).get("waits"))


def _operands(words: list[str], own: Kernel, parts: int = 1) -> tuple[Operand, ...]:
    return tuple(_operand(word, own, parts) for word in words)


def _exists(word: str, own: Kernel) -> bool:
    name = word.partition("/")[0].partition(":")[0].partition(".")[0]
    return name == "all" or int(name[1:]) < len(own.inputs if name[0] == "i" else own.outputs)


def _operand(word: str, own: Kernel, parts: int) -> Operand:
    """The operand that a word of the table names: `i0`, `o1.row`, `all:float32`, `i0/part`."""
    word, _, part_of = word.partition("/")
    whole = _whole_operand(word, own)
    if not part_of:
        return whole
    return Operand((max(1, whole.shape[0] // parts), *whole.shape[1:]), whole.dtype)


def _whole_operand(word: str, own: Kernel) -> Operand:
    word, _, dtype = word.partition(":")
    name, _, part = word.partition(".")
    if name == "all":
        found = Operand((sum(item.count for item in own.present),), own.present[0].dtype)
    else:
        chosen = (own.present if name[0] == "i" else own.outputs)[int(name[1:])]
        found = Operand(chosen.shape, chosen.dtype)
    shape = {"": found.shape, "row": (max(prod(found.shape[:-1]), 1), 1), "one": (1,)}[part]
    return Operand(shape, dtype or found.dtype)
