"""
Answers of vLLM itself to models as users serve them, a JSON line each; run by the Python of a venv that has it.

The engine's arguments are resolved, its classes of the model are built without memory, stage after stage, and its
planner is asked. Stood in for are compiled kernels, the device and process groups: nothing is allocated, nothing runs.
"""

import os
import types
from unittest.mock import MagicMock

import questions
import stand_ins

ANSWERS = questions.answers_apart()
DEVICE = os.environ.get("MEMPLAN_ORACLE_DEVICE", "h100").upper()
CAPABILITY, MEMORY = {"H100": ((9, 0), 80 << 30), "B200": ((10, 0), 180 << 30)}[DEVICE]

stand_ins.hide_kernels("cutlass", "deep_gemm", "flashinfer", "flashinfer_cubin", "humming")

import torch  # noqa: E402 - finds the stand-ins


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
        # Of the framework's build that the engine asks for.
        get_cuda_runtime_major = classmethod(lambda _: 13)

    platforms._current_platform = Platform()


stand_ins.stand_in_for_operators()
stand_in_for_device()

import vllm  # noqa: E402 - finds the stand-ins
from vllm.config import set_current_vllm_config  # noqa: E402 - finds the stand-ins
from vllm.platforms import current_platform  # noqa: E402 - finds the stand-ins
from vllm.v1.core import kv_cache_utils  # noqa: E402 - finds the stand-ins
from vllm.v1.worker.gpu_model_runner import GPUModelRunner  # noqa: E402 - finds the stand-ins

try:
    from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
    from vllm.v1.core import kv_cache_planning
    from vllm.v1.worker.gpu_worker import Worker
except ImportError:
    kv_cache_planning = None

stand_ins.stand_in_for_probes()


def caches_of_stages(config):
    """The settings of the worker of each pipeline stage, and what the engine's own classes say that the stage keeps."""
    found = []
    for stage, told in enumerate(questions.worker_configs(config)):
        questions.build_stage(told, stage, "cuda")
        with set_current_vllm_config(told):
            current_platform.update_block_size_for_backend(told)
            runner = types.SimpleNamespace(
                vllm_config=told, cache_config=told.cache_config, model_config=told.model_config,
                parallel_config=told.parallel_config, speculative_config=told.speculative_config,
                shared_kv_cache_layers={},
            )  # fmt: skip
            found.append((told, GPUModelRunner.get_kv_cache_spec(runner)))
    return found


def planned(config, asked):
    """The engine's plan of each stage."""
    stages = caches_of_stages(config)
    caches = [kept for _, kept in stages]
    memory = [asked["available"]] * len(caches)
    if kv_cache_planning is None:
        return kv_cache_utils.get_kv_cache_configs(config, caches, memory)
    offered = []
    for told, _ in stages:
        with set_current_vllm_config(told):
            offered.append(Worker.get_supported_kv_cache_layouts(types.SimpleNamespace(vllm_config=told)))
    layout = resolve_kv_cache_layout(config, offered, [spec for kept in caches for spec in kept.values()])
    config.cache_config.kv_cache_layout = layout.name
    groups = kv_cache_planning.get_global_kv_cache_groups(config, caches)
    return kv_cache_planning.get_kv_cache_configs(config, caches, memory, groups)


if __name__ == "__main__":
    questions.serve({"vllm": vllm.__version__, "device": DEVICE}, planned, ANSWERS)
