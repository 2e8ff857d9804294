"""
Answers of vLLM's own planner to caches described as JSON, a line each; run by the Python of a venv that has it.

Only the engine's planning functions are called. Its compiled kernels are not needed for that and are left out, so that
a machine without an accelerator will do.
"""

import dataclasses
import json
import sys
from types import SimpleNamespace

import questions
import stand_ins

ANSWERS = questions.answers_apart()
stand_ins.hide_kernels()
stand_ins.stand_in_for_operators()

import torch  # noqa: E402 - finds the stand-ins
import vllm  # noqa: E402 - finds the stand-ins
from vllm.v1 import kv_cache_interface as kinds  # noqa: E402 - finds the stand-ins
from vllm.v1.core import kv_cache_utils  # noqa: E402 - finds the stand-ins

try:
    from vllm.v1.core import kv_cache_planning
    from vllm.v1.kv_cache_layout import KVCacheLayout
except ImportError:
    kv_cache_planning = None

BYTE = torch.uint8


def attention(cache, kind, **more):
    """An attention cache: its bytes a token are divided between keys and values so that other layouts stay others."""
    token, values = cache["payload"] // cache["block"], cache["layout"] + 1
    if any(field.name == "head_size_v" for field in dataclasses.fields(kind)):
        more |= {"head_size": token - values, "head_size_v": values}
    else:
        more["head_size"] = token // 2
    padded = None if cache["page"] == cache["payload"] else cache["page"]
    return kind(block_size=cache["block"], num_kv_heads=1, dtype=BYTE, page_size_padded=padded, **more)


def latent(cache, kind, **more):
    """A cache of one vector a token, or for every `ratio` of them."""
    states = cache["block"] // cache["ratio"]
    more["tokens_per_state" if kv_cache_planning else "compress_ratio"] = cache["ratio"]
    if cache["alignment"] > 1:
        more["alignment"] = cache["alignment"]
    elif cache["page"] != cache["payload"]:
        more["page_size_padded"] = cache["page"]
    return kind(
        block_size=cache["block"],
        num_kv_heads=1,
        head_size=cache["payload"] // states,
        dtype=BYTE,
        cache_dtype_str=f"layout{cache['layout']}",
        **more,
    )


def spec_of(cache, asked):
    """The engine's description of one cache."""
    kind = cache["kind"]
    if kind == "full":
        return attention(cache, kinds.FullAttentionSpec)
    if kind == "sliding":
        return attention(cache, kinds.SlidingWindowSpec, sliding_window=cache["window"])
    if kind == "chunked":
        return attention(cache, kinds.ChunkedLocalAttentionSpec, attention_chunk_size=cache["chunk"])
    if kind == "latent":
        more = {"block_stride_alignment": cache["stride"]} if kv_cache_planning and cache["stride"] > 1 else {}
        return latent(cache, kinds.MLAAttentionSpec, **more)
    if kind == "sliding_latent":
        more = {"block_stride_alignment": cache["stride"]} if kv_cache_planning and cache["stride"] > 1 else {}
        return latent(cache, kinds.SlidingWindowMLASpec, sliding_window=cache["window"], **more)
    if kind == "ring":
        return kinds.CircularBufferSpec(
            block_size=cache["block"],
            num_kv_heads=1,
            head_size=cache["page"] // cache["block"],
            head_size_v=0,
            dtype=BYTE,
        )
    more = {"num_prefill_checkpoint_blocks": asked["checkpoints"]} if kv_cache_planning else {}
    return kinds.MambaSpec(
        block_size=cache["block"], shapes=((cache["payload"],),), dtypes=(BYTE,), page_size_padded=cache["page"],
        mamba_cache_mode=asked["mode"], num_speculative_blocks=asked["drafts"], **more,
    )  # fmt: skip


def settings(asked):
    """What the planning functions read of the engine's settings."""
    layout = (KVCacheLayout.BLHNC if asked["side_by_side"] else KVCacheLayout.LBNHC) if kv_cache_planning else None
    return SimpleNamespace(
        model_config=SimpleNamespace(
            max_model_len=asked["length"], original_max_model_len=-1 if asked["fits"] else asked["length"],
            supports_kv_cache_grouping=False,
        ),
        cache_config=SimpleNamespace(
            num_gpu_blocks_override=asked["blocks"], mamba_cache_mode=asked["mode"],
            prefix_cache_retention_interval=None,
            get_resolved_kv_cache_layout=lambda: layout, enable_prefix_caching=asked["mode"] == "align",
        ),
        scheduler_config=SimpleNamespace(
            disable_hybrid_kv_cache_manager=not asked["hybrid"], max_num_batched_tokens=asked["in_flight"]
        ),
        parallel_config=SimpleNamespace(
            tensor_parallel_size=1, decode_context_parallel_size=asked["context"], prefill_context_parallel_size=1
        ),
        device_config=SimpleNamespace(device_type="cuda"),
        attention_config=SimpleNamespace(hisparse_config=None), speculative_config=None, kv_transfer_config=None,
        num_prefill_lookahead_tokens=0, max_in_flight_tokens=asked["in_flight"],
    )  # fmt: skip


def answer(asked):
    """What the engine plans: blocks, bytes of one, groups and concurrency, or the words it refuses in."""
    config = settings(asked)
    workers = [{cache["name"]: spec_of(cache, asked) for cache in stage} for stage in asked["stages"]]
    try:
        if kv_cache_planning:
            groups = kv_cache_planning.get_global_kv_cache_groups(config, workers)
            planned = kv_cache_planning.get_kv_cache_configs(config, workers, asked["available"], groups)
        else:
            planned = kv_cache_utils.get_kv_cache_configs(config, workers, asked["available"])
    except (ValueError, NotImplementedError, AssertionError, TypeError, ZeroDivisionError) as error:
        return {"refused": str(error)[:400] or type(error).__name__}
    first = planned[0]
    return {
        "num_blocks": first.num_blocks,
        "allocated": [sum({id(t): t.size for t in item.kv_cache_tensors}.values()) if not kv_cache_planning
                      else max((t.size for t in item.kv_cache_tensors), default=0) for item in planned],
        "groups": sorted(len(group.layer_names) for group in first.kv_cache_groups),
        "concurrency": kv_cache_utils.get_max_concurrency_for_kv_cache_config(config, first),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps({"vllm": vllm.__version__}), file=ANSWERS, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=ANSWERS, flush=True)
