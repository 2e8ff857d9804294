"""
Answers of SGLang's own code to how it would split memory, a JSON line each; run by the Python of a venv that has it.

A question holds a model's config, the server's arguments and the memory of one NPU: `total`, `pre` free before weights
are loaded and `free` afterwards, in bytes. The engine resolves its arguments and sizes its pools as on an NPU, whose
driver is stood in for: nothing is allocated.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import MagicMock

# What the engine logs goes to the errors, so that answers stand alone.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
GIB = 1 << 30
# Their get_attention_sliding_window_size leaves the token itself out (models/gpt_oss.py, gemma4_causal.py).
_EXCLUSIVE = ("GptOssForCausalLM", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration")
# Of torchvision only names are imported; its operators would need the very build of torch that it was made with.
_ABSENT = ("IPython", "torch_npu", "custom_ops", "sgl_kernel_npu", "torchvision")


class StandIn(types.ModuleType):
    """A package that is not here, of which every name is a mock."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class NoDrivers(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stand-ins for the packages of an NPU, and for what is not needed of others."""

    def find_spec(self, name, *_):
        absent = name.split(".")[0] in _ABSENT
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if absent else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, NoDrivers())

import torch  # noqa: E402 - finds the stand-ins

MEMORY = [64 * GIB]
torch.npu = StandIn("torch.npu")
torch.npu.is_available = lambda: True
torch.npu.mem_get_info = lambda *_: (MEMORY[0], MEMORY[0])
torch.npu.device_count = lambda: 8
sys.modules["torch.npu"] = torch.npu
torch.distributed.all_reduce = lambda *_, **__: None


def configurator(asked, folder):
    """The engine's own object that sizes the pools, and the context it reads."""
    from sglang.srt import runtime_context as context
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.mem_cache import kv_cache_configurator as sizing
    from sglang.srt.mem_cache.kv_cache_dtype import configure_kv_cache_dtype
    from sglang.srt.model_executor.model_runner_components.layer_setup import resolve_layer_indices
    from sglang.srt.server_args import ServerArgs
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    context.reset_context()
    arguments = ServerArgs(
        model_path=folder, device="npu", skip_tokenizer_init=True, load_format="dummy", **asked["args"]
    )
    arguments.resolve_once()
    context.publish(arguments, role="scheduler")
    parallel = context.get_parallel()
    parallel.override_permanently(world_group=types.SimpleNamespace(cpu_group=None))
    model_config, model = ModelConfig.from_server_args(arguments), types.SimpleNamespace()
    asked_type = context.get_model().kv_cache_dtype
    name, dtype = configure_kv_cache_dtype(
        server_args_kv_cache_dtype=asked_type, model=model, model_dtype=model_config.dtype, is_draft_worker=False,
        is_dflash=False, speculative_draft_attention_backend=None,
    )  # fmt: skip
    drafting = SpeculativeAlgorithm.from_string(context.get_spec().speculative_algorithm)
    drafts = types.SimpleNamespace(
        draft_model_config=None, dflash_draft_num_layers=None, dspark_num_stages=None, eagle_draft_swa_num_layers=None,
        eagle_draft_num_layers=None if drafting.is_none() else model_config.num_nextn_predict_layers,
    )  # fmt: skip
    # load_model_utils.py resolve_sliding_window_size
    window = model_config.sliding_window_size if model_config.is_hybrid_swa else None
    if window is None:
        window = model_config.attention_chunk_size
    if window is not None and model_config.hf_config.architectures[0] in _EXCLUSIVE:
        window -= 1
    sizing.get_available_gpu_memory = lambda *_, **__: asked["free"] / GIB
    return context, sizing.KVCacheConfigurator(
        device="npu", gpu_id=0, attn_dp_size=parallel.attn_dp_size, pp_size=1,
        pp_group=types.SimpleNamespace(rank_in_group=0, world_size=1), model=model, model_config=model_config,
        server_args=arguments, kv_cache_dtype=dtype, model_dtype=model_config.dtype,
        page_size=context.get_schedule().page_size, sliding_window_size=window, spec_algorithm=drafting,
        is_draft_worker=False, post_capture_kv_active=False, spec_aux_config=drafts,
        is_hybrid_swa=model_config.is_hybrid_swa, is_hybrid_swa_compress=model_config.is_hybrid_swa_compress,
        use_mla_backend=context.uses_mla_backend(),
        layer_info=resolve_layer_indices(model=model, model_config=model_config, is_draft_worker=False),
        forward_stream=None, req_to_token_pool=None, token_to_kv_pool_allocator=None, memory_pool_config=None,
        kv_cache_dtype_str=name or asked_type,
    )  # fmt: skip


def answer(asked):
    """How the engine splits the memory, the words it refuses in, or how it fails on a field that the config lacks."""
    from sglang.srt.model_executor.pool_configurator import create_memory_pool_configurator

    MEMORY[0] = asked["total"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(asked["config"]))
        try:
            context, pools = configurator(asked, folder)
            available = pools._profile_available_bytes(asked["pre"] / GIB)
            sizes = pools.config_from_budget(available)
            sizes.max_running_requests = pools.resolve_max_num_reqs(sizes.max_total_num_tokens)
            sizes = create_memory_pool_configurator(pools).finalize_with_max_running_requests(sizes)
        except (ValueError, RuntimeError, AssertionError) as error:
            return {"refused": str(error)[:400] or type(error).__name__}
        except (AttributeError, KeyError, TypeError) as error:
            return {"unread": f"{type(error).__name__}: {error}"[:400]}
    schedule = context.get_schedule()
    return {
        "share": schedule.mem_fraction_static,
        "available": available,
        "tokens": sizes.max_total_num_tokens,
        "window_tokens": sizes.swa_max_total_num_tokens,
        "entries": {"4": sizes.c4_max_total_num_tokens, "128": sizes.c128_max_total_num_tokens},
        "rows": {"4": sizes.c4_state_pool_size, "128": sizes.c128_state_pool_size},
        "requests": sizes.max_running_requests,
        "states": schedule.max_mamba_cache_size,
    }


if __name__ == "__main__":
    import sglang

    print(json.dumps({"engine": f"sglang {sglang.__version__}"}), file=ANSWERS, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=ANSWERS, flush=True)
