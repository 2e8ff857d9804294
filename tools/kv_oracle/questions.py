"""
Questions to an engine's own planner: a JSON line each from the input, answered with a line each.

A question holds a model's `config`, the engine's `args` and the memory `available` to each stage in bytes; `draft` is
the config of a model that drafts for it, `profiled` says that the memory is what a worker found free, of which some
engines use a part.
"""

import copy
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import published_configs
import stand_ins

SECONDS = 300
"""How long the engine may take for an answer."""


def answers_apart():
    """The file for answers; what the engine logs goes to the errors, so that answers stand alone."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return answers


def worker_configs(config):
    """
    The settings of a worker of each pipeline stage, its own: a worker knows its rank, and chooses block sizes by the
    layers that it holds, of which the process that plans does not hear.
    """
    stages = config.parallel_config.pipeline_parallel_size
    if stages == 1:
        return [config]
    found = [copy.deepcopy(config) for _ in range(stages)]
    for stage, told in enumerate(found):
        told.parallel_config.rank = stage * config.parallel_config.tensor_parallel_size
    return found


def build_stage(config, stage, device):
    """The engine's own classes of one pipeline stage, with its draft on the last; their layers name themselves."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    stand_ins.set_groups(config.parallel_config, stage)
    layers, drafting = config.compilation_config.static_forward_context, config.speculative_config
    layers.clear()
    with (
        set_current_vllm_config(config), set_default_torch_dtype(config.model_config.dtype), torch.device("meta"),
        stand_ins.without_memory(device),
    ):  # fmt: skip
        initialize_model(vllm_config=config, model_config=config.model_config)
        own = set(layers)
        last = stage == config.parallel_config.pipeline_parallel_size - 1
        if drafting is not None and drafting.method != "ngram" and last:
            if drafting.method == "draft_model":
                # A whole model that drafts has names and settings of its own (v1/spec_decode/draft_model.py).
                apart = copy.copy(config)
                apart.model_config, apart.quant_config = drafting.draft_model_config, None
                apart.parallel_config = drafting.draft_parallel_config
                initialize_model(vllm_config=apart, prefix="draft_model")
            else:
                initialize_model(vllm_config=config, model_config=drafting.draft_model_config)
    for name, layer in layers.items():
        if name not in own and hasattr(layer, "is_draft_layer"):
            layer.is_draft_layer = True


def answer(asked, plan):
    """What the engine makes of a question by `plan`, or the words it refuses in."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core import kv_cache_utils

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(asked["config"]), "utf-8")
        given = dict(asked["args"])
        published_configs.register(asked["config"])
        if "draft" in asked:
            Path(folder, "draft").mkdir()
            Path(folder, "draft", "config.json").write_text(json.dumps(asked["draft"]), "utf-8")
            given["speculative_config"] = given["speculative_config"] | {"model": f"{folder}/draft"}
        try:
            arguments = EngineArgs(
                model=folder, tokenizer=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True,
                distributed_executor_backend="mp", **given,
            )  # fmt: skip
            config = arguments.create_engine_config()
            if "kv_lora_rank" in asked["config"] and config.model_config.using_transformers_backend():
                # Its caches are planned by the width of a head, which latents do not have.
                raise NotImplementedError("latents are not run by the engine's transformers back end")
            stages = plan(config, asked)
        except Exception as error:  # noqa: BLE001 - whatever it raises is its refusal
            return {"refused": f"{type(error).__name__}: {error}"[:600]}
    told = {"block_size": config.cache_config.block_size} if config.parallel_config.pipeline_parallel_size == 1 else {}
    return told | {
        "prefix_caching": config.cache_config.enable_prefix_caching,
        "asynchronous": config.scheduler_config.async_scheduling,
        "length": config.model_config.max_model_len,
        "num_blocks": stages[0].num_blocks,
        "concurrency": kv_cache_utils.get_max_concurrency_for_kv_cache_config(config, stages[0]),
    }


def serve(head, plan, answers):
    """
    Write `head`, then the answer to each line of the input.

    Each question has a process of its own: some models change what later ones would be served with.
    """
    print(json.dumps(head), file=answers, flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            print(json.dumps(answer(json.loads(line), plan)), file=answers, flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"refused": f"the planner ended with {status}"}), file=answers, flush=True)
