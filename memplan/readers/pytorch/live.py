"""
What a PyTorch module or training step does to memory, recorded op by op on fake tensors: no data, no time, no device.

The step runs once more than it would have to, so that the optimiser's states are there; then every op that PyTorch
dispatches is recorded, with the storages it reads and makes, and the moment each storage is let go. That is what eager
PyTorch does: what autograd keeps for the way back, what activation checkpointing makes anew, and what a variable of the
caller holds on to are in the lifetimes without a rule of ours. PyTorch is imported only when something is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from memplan.core.errors import FOREIGN_FAILURES, InputError
from memplan.core.progress import Progress, silent
from memplan.graph.model import Graph
from memplan.graph.saved import SavedTensors, saved_by_layers
from memplan.readers.mindir.op_table import Target
from memplan.readers.pytorch.fake_state import fake_state
from memplan.readers.pytorch.module_recompute import list_modules, recomputed_modules
from memplan.readers.pytorch.op_recorder import op_recorder
from memplan.readers.pytorch.recorded_graph import WAY_BACK, recorded_graph
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
        on_cpu = self._kernels is Target.CPU
        with recomputed_modules([self._modules[name] for name in recomputed], on_cpu=on_cpu):
            graph = capture_torch(self._source, *self._inputs, target=self._kernels)
        return graph if self._layers is None else replicate_layers(graph, self._layers)

    def saved(self, graph: Graph, _recomputed: Collection[str], /) -> SavedTensors | None:
        """What layers save for the way back, for hooks on saved tensors; a checkpoint saves what goes into it."""
        turn = next((op.index for op in graph.ops if op.name.startswith(WAY_BACK)), None)
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
            recorder = op_recorder(step.names)
            with step.parameters(), recorder:
                for _ in range(step.warm_ups):
                    step.run(*given)
                recorder.begin(step.optimizer, given)
                result = step.run(*given)
                recorder.end(result)
        return recorded_graph(recorder, name, target, progress)
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
