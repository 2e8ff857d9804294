"""
Answers of vLLM itself to models as users serve them, a JSON line each; run by the Python of a venv that has it.

A question holds a model's `config`, the engine's `args`, and the memory of each stage. The engine's arguments are
resolved, its classes of the model are built without memory, stage after stage, and its planner is asked. Stood in for
are compiled kernels, the device and process groups: nothing is allocated and nothing runs.
"""

import importlib.abc
import importlib.machinery
import json
import os
import re
import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import MagicMock

# What the engine logs goes to the errors, so that answers stand alone.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
DEVICE = os.environ.get("MEMPLAN_ORACLE_DEVICE", "h100").upper()
CAPABILITY, MEMORY = {"H100": ((9, 0), 80 << 30), "B200": ((10, 0), 180 << 30)}[DEVICE]

_COMPILED = re.compile(r"vllm\.(_\w*C\w*|cumem_allocator|spinloop|vllm_flash_attn\._vllm_fa\d_C)")
_ABSENT = ("cutlass", "deep_gemm", "humming")


class StandIn(types.ModuleType):
    """A package that is not here, of which every name is a mock."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class NoKernels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in place of compiled ones, stand-ins for packages of kernels."""

    def find_spec(self, name, *_):
        absent = name.split(".")[0] in _ABSENT
        return (
            importlib.machinery.ModuleSpec(name, self, is_package=absent) if absent or _COMPILED.match(name) else None
        )

    def create_module(self, spec):
        return StandIn(spec.name) if spec.name.split(".")[0] in _ABSENT else types.ModuleType(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, NoKernels())

import torch  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402


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
    known, register = torch._ops._OpNamespace.__getattr__, torch.library.register_fake

    def operator(space, name):
        try:
            return known(space, name)
        except AttributeError:
            if name.startswith("__") or "_C" not in space.name:
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


class WithoutMemory(TorchFunctionMode):
    """Tensors meant for the device have sizes and no memory."""

    def __torch_function__(self, function, _, args=(), kwargs=None):
        def moved(value):
            return "meta" if isinstance(value, torch.device | str) and str(value).startswith("cuda") else value

        kwargs = {name: moved(value) for name, value in (kwargs or {}).items()}
        if isinstance(kwargs.get("device"), int):
            kwargs["device"] = "meta"
        return function(*map(moved, args), **kwargs)


def stand_in_for_device():
    """A device of the generation asked for, to the framework and to the engine."""
    cuda = torch.cuda
    for name in ("_lazy_init", "synchronize", "empty_cache", "set_device"):
        # The compiler tells functions apart by identity.
        setattr(cuda, name, lambda *_: None)
    cuda.is_available, cuda.device_count, cuda.current_device = (lambda: True), (lambda: 64), (lambda: 0)
    cuda.get_device_capability, cuda.get_device_name = (lambda *_: CAPABILITY), (lambda *_: f"NVIDIA {DEVICE}")
    cuda.get_device_properties = lambda *_: types.SimpleNamespace(
        name=f"NVIDIA {DEVICE}", multi_processor_count=132, total_memory=MEMORY, major=CAPABILITY[0],
        minor=CAPABILITY[1], shared_memory_per_block_optin=232448, warp_size=32,
    )  # fmt: skip
    cuda.mem_get_info = lambda *_: (MEMORY, MEMORY)
    cuda.Stream, cuda.Event, cuda.current_stream = MagicMock(), MagicMock(), MagicMock()
    import triton

    driver = MagicMock()
    driver.get_current_target.return_value = types.SimpleNamespace(backend="cuda", arch=90, warp_size=32)
    triton.runtime.driver.set_active(driver)
    from vllm import platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform
    from vllm.platforms.interface import DeviceCapability

    class Platform(NonNvmlCudaPlatform):
        get_device_capability = classmethod(lambda *_, **__: DeviceCapability(*CAPABILITY))
        get_device_name = classmethod(lambda *_, **__: f"NVIDIA {DEVICE}")
        get_device_total_memory = classmethod(lambda *_, **__: MEMORY)
        is_fully_connected = classmethod(lambda *_: True)
        device_count = classmethod(lambda _: 64)
        import_kernels = classmethod(lambda _: None)

    platforms._current_platform = Platform()


stand_in_for_operators()
stand_in_for_device()

import vllm  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.distributed import parallel_state  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
from vllm.model_executor.models import registry  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.utils import deep_gemm, import_utils  # noqa: E402
from vllm.utils.torch_utils import set_default_torch_dtype  # noqa: E402
from vllm.v1.core import kv_cache_utils  # noqa: E402
from vllm.v1.worker.gpu_model_runner import GPUModelRunner  # noqa: E402

try:
    from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
    from vllm.v1.core import kv_cache_planning
    from vllm.v1.worker import workspace
    from vllm.v1.worker.gpu_worker import Worker

    workspace.current_workspace_manager = MagicMock()
except ImportError:
    kv_cache_planning = None

registry._run_in_subprocess = lambda function: function()
deep_gemm.has_deep_gemm = import_utils.has_deep_gemm = lambda: True


class Group:
    """Ranks by number, which never speak to each other."""

    def __init__(self, size, rank=0):
        self.world_size, self.rank_in_group, self.rank, self.local_rank = size, rank, rank, 0
        self.ranks = list(range(size))
        self.is_first_rank, self.is_last_rank = rank == 0, rank == size - 1
        self.device_group = self.cpu_group = types.SimpleNamespace(size=lambda: size, rank=lambda: rank)
        self.device, self.unique_name, self.device_communicator = torch.device("meta"), f"ranks-{size}", None


def set_groups(parallel, stage):
    """Process groups of the sizes asked for, on the pipeline stage of this number."""
    tensor, data = parallel.tensor_parallel_size, parallel.data_parallel_size
    sizes = {
        "_TP": tensor, "_DP": data, "_EP": tensor * data, "_EPLB": tensor * data, "_PCP": 1,
        "_DCP": parallel.decode_context_parallel_size, "_WORLD": parallel.world_size,
    }  # fmt: skip
    for name, size in sizes.items():
        setattr(parallel_state, name, Group(size))
    parallel_state._PP = Group(parallel.pipeline_parallel_size, stage)


def caches_of_stages(config):
    """What the engine's own classes say that each pipeline stage keeps."""
    found, drafting = [], config.speculative_config
    stages = config.parallel_config.pipeline_parallel_size
    for stage in range(stages):
        set_groups(config.parallel_config, stage)
        config.compilation_config.static_forward_context.clear()
        with set_current_vllm_config(config):
            with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"), WithoutMemory():
                initialize_model(vllm_config=config, model_config=config.model_config)
                own = set(config.compilation_config.static_forward_context)
                if drafting is not None and stage == stages - 1:
                    initialize_model(vllm_config=config, model_config=drafting.draft_model_config)
            for name, layer in config.compilation_config.static_forward_context.items():
                if name not in own and hasattr(layer, "is_draft_layer"):
                    layer.is_draft_layer = True
            if stage == 0:
                current_platform.update_block_size_for_backend(config)
            runner = types.SimpleNamespace(
                vllm_config=config, cache_config=config.cache_config, model_config=config.model_config,
                parallel_config=config.parallel_config, speculative_config=drafting, shared_kv_cache_layers={},
            )  # fmt: skip
            found.append(GPUModelRunner.get_kv_cache_spec(runner))
    return found


def planned(config, caches, available):
    """The engine's plan of each stage."""
    memory = [available] * len(caches)
    if kv_cache_planning is None:
        return kv_cache_utils.get_kv_cache_configs(config, caches, memory)
    with set_current_vllm_config(config):
        offered = Worker.get_supported_kv_cache_layouts(types.SimpleNamespace(vllm_config=config))
    specs = [spec for stage in caches for spec in stage.values()]
    layout = resolve_kv_cache_layout(config, [offered] * len(caches), specs)
    config.cache_config.kv_cache_layout = layout.name
    groups = kv_cache_planning.get_global_kv_cache_groups(config, caches)
    return kv_cache_planning.get_kv_cache_configs(config, caches, memory, groups)


def answer(asked):
    """What the engine makes of a question, or the words it refuses in and whether the model was at fault."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(asked["config"]), "utf-8")
        try:
            arguments = EngineArgs(
                model=folder, tokenizer=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True,
                distributed_executor_backend="mp", **asked["args"],
            )  # fmt: skip
            config = arguments.create_engine_config()
            caches = caches_of_stages(config)
            stages = planned(config, caches, asked["available"])
        except Exception as error:  # noqa: BLE001 - whatever it raises is its refusal
            return {"refused": f"{type(error).__name__}: {error}"[:600]}
    return {
        "block_size": config.cache_config.block_size,
        "prefix_caching": config.cache_config.enable_prefix_caching,
        "asynchronous": config.scheduler_config.async_scheduling,
        "length": config.model_config.max_model_len,
        "num_blocks": stages[0].num_blocks,
        "concurrency": kv_cache_utils.get_max_concurrency_for_kv_cache_config(config, stages[0]),
    }


if __name__ == "__main__":
    print(json.dumps({"vllm": vllm.__version__, "device": DEVICE}), file=ANSWERS, flush=True)
    settings = dict(os.environ)
    for line in sys.stdin:
        # Some models change what later ones would be served with.
        os.environ.clear()
        os.environ.update(settings)
        print(json.dumps(answer(json.loads(line))), file=ANSWERS, flush=True)
