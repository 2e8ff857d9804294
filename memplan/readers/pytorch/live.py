"""
What a PyTorch module or training step does to memory, recorded op by op on fake tensors: no data, no time, no device.

The step runs once more than it would have to, so that the optimiser's states are there; then every op that PyTorch
dispatches is recorded, with the storages it reads and makes, and the moment each storage is let go. That is what eager
PyTorch does: what autograd keeps for the way back, what activation checkpointing makes anew, and what a variable of the
caller holds on to are in the lifetimes without a rule of ours. Only this module imports PyTorch, and only when called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from memplan.core.errors import FOREIGN_FAILURES, InputError
from memplan.core.progress import Progress, silent
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import DTYPE_BITS, Graph, TensorKind
from memplan.graph.saved import SavedTensors, saved_by_layers
from memplan.readers.mindir.op_table import Target
from memplan.readers.pytorch.aten import TORCH_DTYPES, aten_table, cpu_workspace
from memplan.readers.pytorch.fake_state import fake_state
from memplan.readers.pytorch.host_values import HostValues
from memplan.readers.pytorch.module_recompute import list_modules, recomputed_modules
from memplan.readers.pytorch.step_function import StepObjects, step_objects
from memplan.readers.replicate import replicate_layers
from memplan.schema import PlannedProgram


def is_torch(source: Any, inputs: Sequence[Any] = ()) -> bool:
    """Whether `source` is a module of PyTorch, or something to be called with tensors of PyTorch; imports nothing."""
    kinds = [*type(source).__mro__, *(type(given) for given in inputs)]
    torchs = any(kind.__module__.partition(".")[0] == "torch" for kind in kinds)
    return torchs or isinstance(source, TrainingStep) or bool(step_objects(source).modules)


class TrainingStep:
    """
    One training step of `module`: gradients cleared, `loss(module(inputs...), target)`, the way back, the optimiser.

    `optimizer` makes one of parameters (`torch.optim.AdamW`, or a function for one with options); `loss` is called
    with the result and the last input. Use it where the module has weights of its own that must stay as they are.
    """

    def __init__(self, module: Any, loss: Callable[..., Any], optimizer: Callable[..., Any]) -> None:
        self.module = module
        self.loss = loss
        self.optimizer = optimizer


class TorchProgram:
    """
    `source(*inputs)` as PyTorch runs it, op by op; its layers are recomputed as `torch.utils.checkpoint` does.

    `kernels` are by default those of an NPU, wherever the weights are: scripts are planned where there is none.
    """

    def __init__(
        self, source: Any, inputs: tuple[Any, ...], *, layers: int | None = None, kernels: Target | None = None
    ) -> None:
        self._source, self._inputs, self._layers = source, inputs, layers
        objects = step_objects(source.module if isinstance(source, TrainingStep) else source)
        self._kernels = kernels or Target.ASCEND
        self._modules = {
            f"{prefix}.{name}".lstrip("."): member
            for prefix, module in objects.modules.items()
            for name, member in list_modules(module).items()
        }

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules in lists of several; none where few layers stand for many."""
        return tuple(self._modules) if self._layers is None else ()

    def graph(self, recomputed: Collection[str] = ()) -> Graph:
        """The recorded graph with `recomputed` modules in checkpoints."""
        with recomputed_modules([self._modules[name] for name in recomputed]):
            graph = capture_torch(self._source, *self._inputs, target=self._kernels)
        return graph if self._layers is None else replicate_layers(graph, self._layers)

    def saved(self, graph: Graph, _recomputed: Collection[str], /) -> SavedTensors | None:
        """What layers save for the way back, for hooks on saved tensors; a checkpoint saves what goes into it."""
        turn = next((op.index for op in graph.ops if op.name.startswith(_WAY_BACK)), None)
        if turn is None or not self.modules:
            return None

        def owner(weight: str) -> str | None:
            return next((name for name in self._modules if weight.startswith(f"{name}.")), None)

        return saved_by_layers(graph, owner, turn)

    def told(self, recomputed: Collection[str]) -> PlannedProgram:
        """The program as a plan records it."""
        import torch

        name = getattr(self._source, "__name__", type(self._source).__name__)
        return PlannedProgram("pytorch", str(torch.__version__), "eager", self._kernels.value, name, tuple(recomputed))


def capture_torch(source: Any, *inputs: Any, target: Target = Target.ASCEND, progress: Progress = silent) -> Graph:
    """
    The graph of ops that PyTorch runs for `source(*inputs)`.

    `source` is an `nn.Module` (with gradients if it is in training mode, as it would be called; its weights are
    neither read nor changed), a `TrainingStep`, or a function that runs a step: what it names is put back. `inputs` are
    tensors on any device, the meta device too. With `target` CPU, kernels' own scratch is that of PyTorch's CPU build,
    else it is not known and left out. Raises `InputError` for what can't run without data.
    """
    try:
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ImportError as error:
        raise InputError("PyTorch can't be imported: {}", error, remedy="pip install 'memplan[torch]'") from None
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    name = getattr(source, "__name__", type(source).__name__)
    try:
        with mode:
            given = [mode.from_tensor(item) if isinstance(item, torch.Tensor) else item for item in inputs]
            step = _step(source, mode)
            recorder = _recorder(step.names)
            with step.parameters(), recorder:
                for _ in range(step.warm_ups):
                    step.run(*given)
                recorder.begin(step, given)
                result = step.run(*given)
                recorder.end(result)
        return _graph(recorder, name, target, progress)
    except _FAILURES as error:
        if isinstance(error, InputError):
            raise
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            "{} can't be run on tensors without data: {}",
            name,
            first[:200],
            remedy="check that it runs with these inputs, and that no size in it depends on data",
        ) from None


_FAILURES: tuple[type[Exception], ...] = (*FOREIGN_FAILURES, InputError)
"""What a model may raise; PyTorch's own errors are `RuntimeError`s."""


@dataclass(frozen=True, slots=True)
class _Step:
    """
    What is run: `names` of the tensors that exist before, by identity, `optimizer` whose states those are that are not
    named, and how often it runs before it is recorded. Within `parameters()` the module has those in place of its own,
    on the way back as well, where checkpointing runs it again.
    """

    run: Callable[..., Any]
    names: dict[int, tuple[str, Any]]
    warm_ups: int
    optimizer: Any = None
    parameters: Callable[[], AbstractContextManager[Any]] = nullcontext


def _step(source: Any, mode: Any) -> _Step:
    import torch
    from torch.nn.utils.stateless import _reparametrize_module

    if not isinstance(source, (torch.nn.Module, TrainingStep)):
        if not callable(source):
            raise InputError("an nn.Module, a TrainingStep or a function is expected, found {}", type(source).__name__)
        objects = step_objects(source)
        return _named_step(source, objects, mode) if objects.modules else _Step(source, {}, warm_ups=2)
    module = source.module if isinstance(source, TrainingStep) else source
    held = {}
    for label, tensor in (*module.named_parameters(), *module.named_buffers()):
        held[label] = mode.from_tensor(tensor.detach()).requires_grad_(tensor.requires_grad)
    names = {id(tensor): (label, tensor) for label, tensor in held.items()}

    def parameters() -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = _reparametrize_module(module, held, tie_weights=True)
        return context

    if not isinstance(source, TrainingStep):

        def forward(*inputs: Any) -> Any:
            with torch.set_grad_enabled(module.training):
                return module(*inputs)

        return _Step(forward, names, warm_ups=0, parameters=parameters)
    optimizer = source.optimizer([tensor for tensor in held.values() if tensor.requires_grad])
    loss_of = source.loss

    def train(*inputs: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(module(*inputs[:-1]), inputs[-1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return _Step(train, names, warm_ups=2, optimizer=optimizer, parameters=parameters)


def _named_step(source: Callable[..., Any], objects: StepObjects, mode: Any) -> _Step:
    """A function with the modules and optimisers that it names on tensors without data, and then as they were."""
    names: dict[int, tuple[str, Any]] = {}

    @contextmanager
    def parameters() -> Iterator[None]:
        with fake_state(mode, objects.modules, objects.optimizers, objects.others):
            names.update({id(tensor): (label, tensor) for label, tensor in objects.named_tensors()})
            yield

    return _Step(source, names, warm_ups=2, optimizer=objects, parameters=parameters)


_WAY_BACK = "Gradients/"
"""Begins the names of ops that autograd's engine runs, as MindSpore's compiler has it."""
_ADDED_UP = "add (autograd)"
"""Autograd adds up what comes back by several ways; in place where nothing else holds one, unless somebody watches."""


@dataclass(slots=True)
class _Event:
    """One op as dispatched, or (`name` empty) a storage let go: storages by number, results with their types."""

    name: str
    inputs: tuple[tuple[int, tuple[int, ...]], ...]
    outputs: tuple[tuple[int, tuple[int, ...], str], ...] = ()
    attrs: Mapping[str, object] = field(default_factory=dict)
    on_way_back: bool = False


def _recorder(names: Mapping[int, tuple[str, Any]]) -> Any:
    """A dispatch mode that writes down what PyTorch runs; a function of its own because its base is PyTorch's."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def in_engine() -> bool:
        """Whether autograd runs, and no forward pass that checkpointing repeats within it."""
        return torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()

    def arguments_of(func: Any, args: Sequence[Any]) -> dict[str, object]:
        found: dict[str, object] = {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if isinstance(value, (bool, int, float, str)):
                found[argument.name] = value
            elif isinstance(value, (list, tuple)) and value and all(isinstance(item, int) for item in value):
                found[argument.name] = tuple(value)
        return found

    def tensors(tree: Any) -> list[Any]:
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    class Recorder(TorchDispatchMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.recording = False
            self.events: list[_Event] = []
            self.numbers: dict[int, int] = {}
            self.alive: dict[int, Any] = {}
            self.nbytes: list[int] = []
            self.before: dict[int, tuple[str, TensorKind, tuple[int, ...], str]] = {}
            self.passing: set[int] = set()
            self.kept: list[int] = []
            self.parameters: dict[int, Any] = {}
            self.produced: set[int] = set()
            self.threads = torch.get_num_threads()
            self.host = HostValues()

        def number(self, tensor: Any) -> int:
            """The number of the storage of `tensor`; a weak reference keeps its address from being used again."""
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            found = self.numbers.get(reference.cdata)
            if found is None:
                found = self.numbers[reference.cdata] = len(self.nbytes)
                self.nbytes.append(storage.nbytes())
                self.alive[found] = reference
            return found

        def note_deaths(self) -> None:
            for number in [number for number, reference in self.alive.items() if reference.expired()]:
                del self.numbers[self.alive[number].cdata]
                del self.alive[number]
                self.events.append(_Event("", ((number, ()),)))

        def exists(self, tensor: Any, label: str, kind: TensorKind) -> None:
            self.before.setdefault(self.number(tensor), (label, kind, tuple(tensor.shape), dtype_of(tensor)))

        def begin(self, step: _Step, inputs: Sequence[Any]) -> None:
            self.recording = True
            for place, tensor in enumerate(tensors(list(inputs))):
                self.exists(tensor, f"inputs{place}", TensorKind.INPUT)
            for label, tensor in names.values():
                self.exists(tensor, label, TensorKind.WEIGHT)
            for place, tensor in enumerate(self.parameters.values()):
                self.exists(tensor, f"parameter{place}", TensorKind.WEIGHT)
            held = [tensor for _, tensor in names.values()] + list(self.parameters.values())
            if step.optimizer is not None:
                for place, state in enumerate(step.optimizer.state.values()):
                    for key, value in state.items():
                        if isinstance(value, torch.Tensor):
                            self.exists(value, f"{key}.{place}", TensorKind.OPTIMIZER_STATE)
            for tensor in held:
                if tensor.grad is not None:
                    self.passing.add(self.number(tensor.grad))
            self.parameters.clear()

        def end(self, result: Any) -> None:
            self.note_deaths()
            self.recording = False
            self.kept = [number for number in self.alive if number not in self.before]
            self.kept += [self.number(tensor) for tensor in tensors(result)]

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func._schema.name.partition("::")[2]
            if name == "_local_scalar_dense":
                value = self.host.read(args[0], noted=self.recording)
                if value is not None:
                    return value
            if not self.recording:
                for tensor in tensors((args, kwargs)):
                    if isinstance(tensor, torch.nn.Parameter):
                        self.parameters.setdefault(id(tensor), tensor)
                return self.host.follow(name, args, func(*args, **(kwargs or {})))
            self.note_deaths()
            used = tensors((args, kwargs))
            known = [self.number(tensor) for tensor in used]
            for number, tensor in zip(known, used, strict=True):
                if number not in self.before and number not in self.produced and number not in self.passing:
                    written = name.endswith("_") and number == known[0]
                    kind = TensorKind.OPTIMIZER_STATE if written else TensorKind.CONSTANT
                    self.exists(tensor, f"held{number}", kind)
            result = self.host.follow(name, args, func(*args, **(kwargs or {})))
            made = tuple((self.number(tensor), tuple(tensor.shape), dtype_of(tensor)) for tensor in tensors(result))
            if name == "add" and in_engine() and not used[0]._is_view():
                name = _ADDED_UP  # autograd leaves views alone: whoever made one still holds its base
            if not made and not name.endswith("_"):
                return result  # asks for a device or a size
            self.produced.update(number for number, _, _ in made)
            shapes = tuple((number, tuple(tensor.shape)) for number, tensor in zip(known, used, strict=True))
            self.events.append(_Event(name, shapes, made, arguments_of(func, args), in_engine()))
            return result

    return Recorder()


def dtype_of(tensor: Any) -> str:
    """The element type of a tensor of PyTorch as a dtype; raises `InputError` for one that is not known."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in TORCH_DTYPES:
        raise InputError("element type {} is unknown", name)
    return TORCH_DTYPES[name]


_OPAQUE = frozenset({"mkldnn_rnn_layer", "mkldnn_rnn_layer_backward", "_transformer_encoder_layer_fwd"})
"""Whole layers that are one op to PyTorch and many to the memory."""


def _graph(record: Any, name: str, target: Target, progress: Progress) -> Graph:
    """The recorded events as a graph: an op for each, and one that keeps a storage where it outlives its last use."""
    builder = GraphBuilder()
    base: dict[int, int] = {}
    for number, (label, kind, shape, dtype) in record.before.items():
        base[number] = builder.tensor(label, shape, dtype, record.nbytes[number], kind)
    gone = [number for number in record.passing if number not in base]
    for number in gone:
        base[number] = builder.tensor(f"gradient{number}", (record.nbytes[number],), "uint8", record.nbytes[number])
    if gone:
        builder.op("gradients of the step before", "KeepAlive", (), [base[number] for number in gone], launches=False)
    used: dict[int, int] = {}
    counts: dict[str, int] = {}
    _add_in_place(record.events, base)
    for done, event in enumerate(record.events):
        if done % 1024 == 0:
            progress(done, len(record.events), "ops recorded")
        if event.name:
            touched = _append(builder, record, base, event, counts, target)
            used.update(dict.fromkeys(touched, len(builder.ops) - 1))
            continue
        tensor = base.get(event.inputs[0][0]) if event.inputs else None
        if tensor is None or builder.kinds[tensor].persistent:
            continue
        if used.get(tensor, -1) < len(builder.ops) - 1:
            builder.op("KeepAlive", "KeepAlive", (tensor,), (), launches=False)
    fused = sorted({event.name for event in record.events} & _OPAQUE)
    if fused:
        builder.notes.append(
            f"{', '.join(fused)}: each layer of these is one kernel of PyTorch's CPU build, whose scratch is not known "
            "and not planned"
        )
    builder.notes.extend(record.host.notes())
    inputs = [base[number] for number, (_, kind, _, _) in record.before.items() if kind is TensorKind.INPUT]
    outputs = [base[number] for number in dict.fromkeys(record.kept) if number in base]
    return builder.finish(name, inputs, outputs, origin=name, producer="PyTorch")


def _add_in_place(events: list[_Event], held: Mapping[int, int]) -> None:
    """
    Let each sum of autograd be written over an operand that is let go right behind it.

    That is what autograd does when nobody watches; `held` existed before and is never written over.
    """
    stands_for: dict[int, int] = {}

    def now(number: int) -> int:
        while number in stands_for:
            number = stands_for[number]
        return number

    for place, event in enumerate(events):
        if event.name == _ADDED_UP:
            event.name = "add"
            freed = []
            for later in events[place + 1 :]:
                if later.name:
                    break
                freed.append(later)
            for later in freed:
                (number, _), *_ = later.inputs
                alike = any(number == used and shape == event.outputs[0][1] for used, shape in event.inputs)
                if alike and number not in held:
                    stands_for[event.outputs[0][0]] = number
                    later.inputs = ()  # its bytes go on as those of the sum
                    event.name = "add_"
                    break
        event.inputs = tuple((now(number), shape) for number, shape in event.inputs)
        event.outputs = tuple((now(number), shape, dtype) for number, shape, dtype in event.outputs)


def _append(
    builder: GraphBuilder, record: Any, base: dict[int, int], event: _Event, counts: dict[str, int], target: Target
) -> list[int]:
    """Append the op of `event`; returns the tensors that own the bytes it touches."""
    inputs = [base[number] for number, _ in event.inputs]
    kind = aten_table().op_type(event.name)
    counts[kind] = counts.get(kind, -1) + 1
    label, outputs, fresh = f"{_WAY_BACK * event.on_way_back}{kind}-op{counts[kind]}", [], False
    for number, shape, dtype in event.outputs:
        if number in base:
            outputs.append(builder.alias(label, base[number]))
            continue
        base[number] = builder.tensor(label, shape, dtype, record.nbytes[number])
        outputs.append(base[number])
        fresh = True
    launches = fresh or event.name.endswith("_") or not event.outputs
    stored = [record.nbytes[number] for number, _ in event.inputs]
    sizes = [record.nbytes[number] for number, _, _ in event.outputs]
    made = [shape for _, shape, _ in event.outputs]
    element = DTYPE_BITS[event.outputs[0][2]] // 8 if event.outputs else 4
    workspace = cpu_workspace(event.name, event.inputs, sizes, event.attrs, stored, made, record.threads, element)
    builder.op(
        label, kind, inputs, outputs, launches=launches, attrs=event.attrs,
        workspace_bytes=workspace if target is Target.CPU else 0,
    )  # fmt: skip
    return [*inputs, *(base[number] for number, _, _ in event.outputs)]
