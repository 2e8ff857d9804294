"""
Stand-ins for what a planner of an engine needs and no CPU has: compiled kernels, a device's memory, process groups.

For the Pythons of venvs that hold an engine: kernels are hidden before the engine is imported.
"""

import contextlib
import importlib.abc
import importlib.machinery
import re
import sys
import types
from unittest.mock import MagicMock

COMPILED = re.compile(r"vllm\.(_\w*C\w*|cumem_allocator|spinloop|vllm_flash_attn\._vllm_fa\d_C)")


class StandIn(types.ModuleType):
    """A package that is not here, of which every name is a mock, the same one each time; what tells bytes says one."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = MagicMock(name=f"{self.__name__}.{name}")
        if name.endswith(("_bytes", "_size")):
            found.return_value = 1
        setattr(self, name, found)
        return found


class NoKernels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in place of compiled ones, stand-ins for packages of kernels."""

    def __init__(self, absent):
        self.absent = absent

    def find_spec(self, name, *_):
        absent = self.stands_in(name)
        found = absent or COMPILED.match(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=absent) if found else None

    def stands_in(self, name):
        return name.split(".")[0] in self.absent

    def create_module(self, spec):
        return StandIn(spec.name) if self.stands_in(spec.name) else types.ModuleType(spec.name)

    def exec_module(self, module):
        pass


def hide_kernels(*absent):
    """From here on, compiled modules are empty and the packages named `absent` are mocks."""
    sys.meta_path.insert(0, NoKernels(absent))


class Op:
    """A compiled operator: it supports whatever it is asked for."""

    def __init__(self, name):
        self.name = name

    def __call__(self, *_, **__):
        return True if "support" in self.name else MagicMock()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Op(name)


def stand_in_for_operators():
    """Operators of compiled extensions answer, and fake implementations of them are left out."""
    import torch

    known, register = torch._ops._OpNamespace.__getattr__, torch.library.register_fake

    def operator(space, name):
        try:
            return known(space, name)
        except AttributeError:
            if name.startswith("__") or not re.search("_C|_ascend", space.name):
                raise
            return Op(name)

    def register_fake(name, function=None, **more):
        def kept(function):
            try:
                return register(name, function, **more)
            except (RuntimeError, AttributeError):
                return function

        return kept if function is None else kept(function)

    torch._ops._OpNamespace.__getattr__ = operator
    torch.library.register_fake = register_fake


def without_memory(device):
    """A mode in which tensors meant for `device` have sizes and no memory, and those of the host are not pinned."""
    import torch
    from torch.overrides import TorchFunctionMode

    def moved(value):
        return "meta" if isinstance(value, torch.device | str) and str(value).startswith(device) else value

    class WithoutMemory(TorchFunctionMode):
        def __torch_function__(self, function, _, args=(), kwargs=None):
            kwargs = {name: moved(value) for name, value in (kwargs or {}).items()}
            if isinstance(kwargs.get("device"), int):
                kwargs["device"] = "meta"
            kwargs.pop("pin_memory", None)
            return function(*map(moved, args), **kwargs)

    return WithoutMemory()


class Group:
    """Ranks by number, which never speak to each other."""

    def __init__(self, size, rank=0):
        import torch

        self.world_size, self.rank_in_group, self.rank, self.local_rank = size, rank, rank, 0
        self.ranks = list(range(size))
        self.is_first_rank, self.is_last_rank = rank == 0, rank == size - 1
        self.device_group = self.cpu_group = types.SimpleNamespace(size=lambda: size, rank=lambda: rank)
        self.device, self.unique_name, self.device_communicator = torch.device("meta"), f"ranks-{size}", None


def set_groups(parallel, stage):
    """Process groups of the sizes asked for, on the pipeline stage of this number."""
    from vllm.distributed import parallel_state

    tensor, data = parallel.tensor_parallel_size, parallel.data_parallel_size
    sizes = {
        "_TP": tensor, "_DP": data, "_EP": tensor * data, "_EPLB": tensor * data, "_PCP": 1,
        "_DCP": parallel.decode_context_parallel_size, "_WORLD": parallel.world_size,
    }  # fmt: skip
    for name, size in sizes.items():
        setattr(parallel_state, name, Group(size))
    parallel_state._PP = Group(parallel.pipeline_parallel_size, stage)


def stand_in_for_probes():
    """What the engine finds out in processes of their own, from tokenizers or by looking for packages of kernels."""
    from vllm.model_executor.models import registry
    from vllm.utils import deep_gemm, import_utils
    from vllm.v1.worker import gpu_model_runner

    registry._run_in_subprocess = lambda function: function()
    deep_gemm.has_deep_gemm = import_utils.has_deep_gemm = lambda: True
    gpu_model_runner.MultiModalBudget = MagicMock()
    with contextlib.suppress(ImportError):
        from vllm.v1.attention.ops import cp_common

        # Ranks that share tokens may write into each other's memory where a machine holds them all.
        cp_common.in_the_same_node_as = lambda *_, **__: [False]
    try:
        from vllm.v1.worker import workspace
    except ImportError:
        return
    workspace.current_workspace_manager = MagicMock()
