"""
Answers of vllm-ascend itself to models as users serve them, a JSON line each; run by the Python of a venv that has it.

As `model_planner.py` asks vLLM: the platform resolves the engine's arguments, all its patches are applied, the model's
classes are built without memory, its model runner describes their caches and its worker scales the memory. The kernels
of the chip named by `MEMPLAN_ORACLE_DEVICE`, its driver and process groups are stood in for.
"""

import contextlib
import importlib
import os
import sys
import types
from unittest.mock import MagicMock

import questions
import stand_ins

ANSWERS = questions.answers_apart()
DEVICE = os.environ.get("MEMPLAN_ORACLE_DEVICE", "a3").upper()
CHIP = {"A2": "ascend910b1", "A3": "ascend910_9391", "A5": "ascend950pr_9599", "310P": "ascend310p3"}[DEVICE]
MEMORY = 61 << 30

stand_ins.hide_kernels("torch_npu", "triton_ascend", "custom_ops", "fla_npu", "acl", "torchair")

import torch  # noqa: E402 - finds the stand-ins
import torch.distributed  # noqa: E402 - finds the stand-ins


def stand_in_for_device():
    """The chip that the engine was built for, which a build writes down, and its driver."""
    built = types.ModuleType("vllm_ascend._build_info")
    built.__device_type__, built.__soc_version__ = f"_{DEVICE}" if DEVICE[0].isdigit() else DEVICE, CHIP
    sys.modules[built.__name__] = built
    driver = stand_ins.StandIn("torch.npu")
    driver.is_available, driver.device_count, driver.current_device = (lambda: True), (lambda: 64), (lambda: 0)
    driver.mem_get_info, driver.get_device_name = (lambda *_: (MEMORY, MEMORY)), (lambda *_: CHIP)
    driver.get_device_properties = lambda *_: types.SimpleNamespace(
        name=CHIP, total_memory=MEMORY, cube_core_num=24, vector_core_num=48
    )
    for name in ("torchair.fx_summary", "torchair.npu_fx_compiler"):
        # Patches of 0.23 load these anew.
        importlib.import_module(name)
    torch.distributed.is_hccl_available = lambda: True
    torch.utils.rename_privateuse1_backend("npu")
    torch.npu = sys.modules["torch.npu"] = driver
    torch.Tensor.npu = lambda tensor, *_, **__: tensor


stand_ins.stand_in_for_operators()
stand_in_for_device()

import vllm  # noqa: E402 - finds the stand-ins
from vllm.config import set_current_vllm_config  # noqa: E402 - finds the stand-ins
from vllm.platforms import current_platform  # noqa: E402 - finds the stand-ins

current_platform.device_count = lambda: 64

from vllm.plugins import load_general_plugins  # noqa: E402 - finds the stand-ins
from vllm_ascend import utils  # noqa: E402 - finds the stand-ins

load_general_plugins()
utils.adapt_patch()

from vllm.v1.core import kv_cache_utils  # noqa: E402 - finds the stand-ins

if DEVICE == "310P":
    from vllm_ascend._310p.model_runner_310p import NPUModelRunner310 as NPUModelRunner
    from vllm_ascend._310p.worker_310p import NPUWorker310 as NPUWorker
else:
    from vllm_ascend.worker.model_runner_v1 import NPUModelRunner
    from vllm_ascend.worker.worker import NPUWorker
try:
    from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
except ImportError:
    resolve_kv_cache_layout = None

stand_ins.stand_in_for_probes()


def workers_of_stages(config):
    """A worker of each pipeline stage, and what its model runner says that the stage keeps."""
    found = []
    for stage, told in enumerate(questions.worker_configs(config)):
        questions.build_stage(told, stage, "npu")
        with set_current_vllm_config(told), stand_ins.without_memory("npu"):
            current_platform.update_block_size_for_backend(told)
            worker = object.__new__(NPUWorker)
            worker.vllm_config, worker.model_config = told, told.model_config
            worker.model_runner = NPUModelRunner(told, torch.device("npu", 0))
            caches = worker.model_runner.get_kv_cache_spec()
        worker.get_kv_cache_spec = lambda caches=caches: caches
        found.append((worker, caches))
    return found


class TakenError(Exception):
    """A runner that gets so far takes the plan."""


def taken(workers, plans):
    """The `plans`, which runners of 310P refuse of some models before they allocate anything."""
    for (worker, _), plan in zip(workers, plans, strict=True):
        runner = worker.model_runner
        if DEVICE == "310P":
            runner._allocate_kv_cache_tensors = MagicMock(side_effect=TakenError)
            with contextlib.suppress(TakenError):
                runner.initialize_kv_cache_tensors(plan)
    return plans


def planned(config, asked):
    """The engine's plan of each stage."""
    with set_current_vllm_config(config):
        utils.register_ascend_customop(config)
    workers = workers_of_stages(config)
    caches = [kept for _, kept in workers]
    if resolve_kv_cache_layout is None:
        memory = [asked["available"]] * len(caches)
        return taken(workers, kv_cache_utils.get_kv_cache_configs(config, caches, memory))
    offered = []
    for worker, _ in workers:
        with set_current_vllm_config(worker.vllm_config):
            offered.append(worker.get_supported_kv_cache_layouts())
    layout = resolve_kv_cache_layout(config, offered, [one for kept in caches for one in kept.values()])
    for one in (config, *(worker.vllm_config for worker, _ in workers)):
        one.cache_config.kv_cache_layout = layout.name
    memory = [asked["available"]] * len(caches)
    if asked.get("profiled"):
        memory = [worker._scale_kv_cache_memory_for_multi_group(asked["available"]) for worker, _ in workers]
    return taken(workers, kv_cache_utils.get_kv_cache_configs(config, caches, memory))


if __name__ == "__main__":
    questions.serve({"vllm": vllm.__version__, "device": DEVICE}, planned, ANSWERS)
