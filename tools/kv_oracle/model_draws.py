"""
Draw models and options as users serve them, plan each with memplan and with an engine's own classes, compare.

`model_draws.py VERSION PYTHON [--device NAME] [--draws N] [--seed N] [--configs FOLDER]`: PYTHON is that of a venv with
vLLM VERSION, or with what a VERSION such as `vllm-ascend-0.30.0rc2` names. Models are cut to a few layers, for the
engine builds each. An engine that fails on a config for other reasons than a plan (a field it misses, a package that is
not here) says nothing of planning: such draws are counted apart. Without a folder of configs the models are those that
the tests know, by the classes that PYTHON's transformers names for them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, engine, plan_stages, resolve
from memplan.kv.kept_entries import cache_parts
from memplan.kv.sequence_lengths import sequence_lengths
from memplan.models import load_config
from memplan.models.drafts import with_draft
from memplan.models.parallel import Layout

Values = dict[str, Any]

DEVICES = {"vllm": ("h100", "b200"), "vllm-ascend": ("a3", "a2", "a5", "310p")}
"""The devices that plans are drawn for, the usual one first."""

REFUSALS = (
    "is not divisible by",
    "KV cache is needed", "must be divisible by", "not supported for this model", "requires pipeline_parallel",
    "No valid attention backend", "one unified type", "static quantization", "only supports fp8 kv-cache",
    "MLA is not supported on 310P", "total num kv heads", "total number of KV heads", "Assertion failed",
    "PP+MTP is only", "divisible by the maximum page size", "is not supported for 310P", "different across workers",
    "Duplicate layer name", "DCP not support", "Decode context parallelism", "decode-context-parallel-size",
    "start_layer should be", "supports only its native", "are not supported for now",
    "KV sharing target layer", "Workers disagree", "bounded_replay",
)  # fmt: skip
"""What the engine says where it can't serve what was asked, in the words of its refusals."""


FAMILIES = Path(__file__).parents[2] / "tests" / "models"
CLASSES = """import json
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as names
print(json.dumps(dict(names)))"""


def models_of_tests(python: str) -> dict[str, Values]:
    """The configs that the tests plan, by family, of which the transformers of `python` know a class."""
    told = subprocess.run([python, "-c", CLASSES], capture_output=True, text=True, check=True).stdout
    classes = json.loads(told.splitlines()[-1])
    families = json.loads((FAMILIES / "families.json").read_text("utf-8"))
    families |= json.loads((FAMILIES / "described.json").read_text("utf-8"))["families"]
    configs = {name: row["config"] for name, row in families.items() if name != "source"}
    return {
        name: {"architectures": [classes.get(config.get("model_type"))]} | config
        for name, config in configs.items()
        if "architectures" in config or config.get("model_type") in classes
    }


def models_of_folder(folder: Path) -> dict[str, Values]:
    """The models of `folder`, by the names of their files."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("**/*.json"))}
    return {name: config for name, config in found.items() if isinstance(config, dict) and "architectures" in config}


def cut(chance: random.Random, document: Values) -> Values:
    """The model with a few layers, or with as many more as attention needs to be among them."""
    first = chance.choice((6, 8, 9, 12, 13))
    for kept in range(first, 10 * first):
        found = cut_to(document, kept)
        try:
            contents = [{part.content for part in cache_parts(load_config(one))} for one in (found, document)]
        except InputError:
            return found
        if contents[0] == contents[1]:
            return found
    return found


def cut_to(document: Values, kept: int) -> Values:
    """The model with `kept` layers: its lists by layer are cut with it."""
    document = json.loads(json.dumps(document))
    inner: Values = document.get("text_config") or document
    layers = inner.get("num_hidden_layers")
    if not isinstance(layers, int) or layers <= kept:
        return document
    drafts = inner.get("num_nextn_predict_layers") or 0
    for name, value in inner.items():
        if isinstance(value, list | str) and len(value) in (layers, layers + drafts):
            # What stands behind the layers is that of the layers of multi-token prediction.
            inner[name] = value[:kept] + value[layers:]
        elif name == "num_kv_shared_layers" and isinstance(value, int):
            inner[name] = min(value, max(0, kept - 6))
        elif name.endswith(("_layers", "layer_ids")) and isinstance(value, list):
            inner[name] = [item for item in value if not isinstance(item, int) or item < kept]
        elif name == "per_layer_config" and isinstance(value, dict):
            inner[name] = {key: row for key, row in value.items() if int(key) < kept}
        elif name == "linear_attn_config":
            inner[name] = {
                key: [item for item in found if item <= kept] if isinstance(found, list) else found
                for key, found in value.items()
            }
    return document | {"num_hidden_layers": kept} if inner is document else _within(document, inner, kept)


def _within(document: Values, inner: Values, kept: int) -> Values:
    return document | {"text_config": inner | {"num_hidden_layers": kept}}


def decoder_of(document: Values) -> Values:
    """The object that describes the decoder."""
    names = ("text_config", "llm_config", "language_config")
    return next((document[name] for name in names if document.get(name)), document)


TYPES = ("fp8", "fp8_e4m3", "bfloat16")
SCALED_TYPES = (*TYPES, "fp8", "int8_per_token_head", "fp8_per_token_head")
"""Types of caches: those of vLLM on NPUs, and with scales beside every vector of a head, which its own kernels keep."""


def drawn(chance: random.Random, document: Values, types: Sequence[str] = SCALED_TYPES) -> Values:
    """The engine's arguments for a model."""
    inner = decoder_of(document)
    longest = inner.get("max_position_embeddings") or inner.get("n_positions") or inner.get("seq_length") or 8192
    asked: Values = {
        "tensor_parallel_size": chance.choice((1, 1, 1, 2, 2, 2, 4, 4, 8, 8, 3, 6)),
        "max_model_len": min(longest, chance.choice((1024, 4096, 8192, 20_000, 32_768, 131_072))),
    }
    for name, share, values in (
        ("max_num_batched_tokens", 0.5, (2048, 4096, 8192, 16_384)),
        ("enable_prefix_caching", 0.4, (True, False)),
        ("block_size", 0.3, (16, 32, 64, 128, 256)),
        ("kv_cache_dtype", 0.3, types),
        ("async_scheduling", 0.2, (False,)),
        ("disable_hybrid_kv_cache_manager", 0.08, (True,)),
        ("num_gpu_blocks_override", 0.1, (50, 1000, 20_000)),
        ("decode_context_parallel_size", 0.08, (2, 4)),
        ("pipeline_parallel_size", 0.25, (2, 3, 4, 6)),
    ):
        if chance.random() < share:
            asked[name] = chance.choice(values)
    if (inner.get("num_nextn_predict_layers") or inner.get("mtp_num_hidden_layers")) and chance.random() < 0.4:
        asked["speculative_config"] = {"method": "mtp", "num_speculative_tokens": chance.choice((1, 2, 3))}
    elif chance.random() < 0.25:
        asked["speculative_config"] = {
            "method": chance.choice(
                ("ngram", "eagle", "eagle3", *("draft_model",) * ("pipeline_parallel_size" not in asked))
            ),
            "num_speculative_tokens": chance.choice((1, 3, 5)),
        }
        if asked["speculative_config"]["method"] == "ngram":
            asked["speculative_config"]["prompt_lookup_max"] = 3
    if any("expert" in name for name in inner) and chance.random() < 0.2:
        asked |= {"enable_expert_parallel": True, "data_parallel_size": chance.choice((1, 2))}
    if chance.random() < 0.08:
        asked["max_model_len"] = -1
    return asked


def draft_of(chance: random.Random, document: Values, method: str) -> Values:
    """The config of a model that drafts for another by `method`."""
    inner = decoder_of(document)
    eagle = method != "draft_model"
    heads = chance.choice((16, 32))
    return {
        "architectures": ["LlamaForCausalLMEagle3" if method == "eagle3" else "LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": inner.get("hidden_size", 2048) if eagle else 2048,
        "num_hidden_layers": 1 if eagle else chance.choice((2, 4)),
        "num_attention_heads": heads,
        "num_key_value_heads": chance.choice((8, heads)),
        "head_dim": chance.choice((64, 128)),
        "intermediate_size": 4096,
        "vocab_size": inner.get("vocab_size", 32_000),
        "draft_vocab_size": 16_000,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": inner.get("torch_dtype") or inner.get("dtype") or "bfloat16",
    }


def ours(served: str, question: Values) -> Values:
    """Memplan's plan, in the engine's words."""
    asked = question["args"]
    drafts = asked.get("speculative_config", {})
    try:
        model = replace(load_config(question["config"]), name=question["name"])
    except InputError as error:
        return {"refused": str(error)}
    fits = asked["max_model_len"] == -1
    options = ServingOptions(
        length=sequence_lengths(model, engine(served).lengths).default if fits else asked["max_model_len"],
        fits_length=fits,
        caches=CacheOptions(
            block_size=asked.get("block_size"),
            kv=asked.get("kv_cache_dtype"),
            speculative_tokens=drafts.get("num_speculative_tokens", 0),
            draft_method=drafts.get("method", "mtp"),
        ),
        batched_tokens=asked.get("max_num_batched_tokens"),
        asynchronous=asked.get("async_scheduling"),
        prefix_caching=asked.get("enable_prefix_caching"),
        hybrid=not asked.get("disable_hybrid_kv_cache_manager", False),
        blocks=asked.get("num_gpu_blocks_override"),
    )
    layout = Layout(
        tensor=asked["tensor_parallel_size"],
        pipeline=asked.get("pipeline_parallel_size", 1),
        context=asked.get("decode_context_parallel_size", 1),
        data=(data := asked.get("data_parallel_size", 1)),
        expert=data * asked["tensor_parallel_size"] if asked.get("enable_expert_parallel") else 1,
    )
    available = (question["available"],) * layout.pipeline
    try:
        if "draft" in question:
            model = with_draft(model, load_config(question["draft"]), drafts["method"])
        settings = resolve(model, engine(served), options, layout)
        pool, *_ = pools = plan_stages(model, engine(served), options, available, layout, profiled=question["profiled"])
    except InputError as error:
        return {"refused": str(error)}
    refusals = [stage.refusal.message for stage in pools if stage.refusal is not None]
    if refusals:
        return {"refused": refusals[0]}
    return {
        "block_size": settings.options.caches.block_size,
        "prefix_caching": settings.options.prefix_caching,
        "asynchronous": settings.options.asynchronous,
        "num_blocks": pool.num_blocks,
        "concurrency": pool.max_concurrency,
    }


def unlike(here: Values, there: Values) -> bool:
    """Whether two plans differ; blocks of a model without attention have no size that matters."""
    if "refused" in here or "refused" in there:
        return ("refused" in here) != ("refused" in there)
    told = {name: value for name, value in here.items() if name in there and (name, value) != ("block_size", None)}
    return any(there[name] != value for name, value in told.items())


def questions_of(known: Values, draws: int, seed: int, *, ascend: bool) -> list[Values]:
    """Questions to the engine: models by name, the engine's arguments, the memory of a stage in bytes."""
    chance, questions = random.Random(seed), []
    for _ in range(draws):
        name = chance.choice(sorted(known))
        config = cut(chance, known[name])
        if ascend:
            # Its loaders take quantized weights only with files that describe them; caches don't depend on weights.
            config.pop("quantization_config", None)
        available = int(chance.choice((2, 8, 20, 37.5, 60)) * GIB)
        asked = drawn(chance, config, TYPES if ascend else SCALED_TYPES)
        question = {"name": name, "config": config, "args": asked, "available": available}
        method = question["args"].get("speculative_config", {}).get("method", "mtp")
        if method in ("eagle", "eagle3", "draft_model"):
            question["draft"] = draft_of(chance, config, method)
        questions.append(question | {"profiled": ascend and chance.random() < 0.5})
    return questions


def main() -> int:
    """Print each difference and how many there are; exit with 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version")
    parser.add_argument("python")
    parser.add_argument("--device", choices=[device for devices in DEVICES.values() for device in devices])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--configs", type=Path)
    asked = parser.parse_args()
    ascend = asked.version.startswith("vllm-ascend-")
    devices = DEVICES["vllm-ascend" if ascend else "vllm"]
    device = asked.device or devices[0]
    if device not in devices:
        parser.error(f"{asked.version} runs on {', '.join(devices)}")
    served = f"{'' if ascend else 'vllm-'}{asked.version}-{device}"
    served = "vllm-0.23.0" if asked.version == "0.23.0" else served
    known = models_of_tests(asked.python) if asked.configs is None else models_of_folder(asked.configs)
    questions = questions_of(known, asked.draws, asked.seed, ascend=ascend)
    planner = Path(__file__).with_name("ascend_planner.py" if ascend else "model_planner.py")
    run = subprocess.run(
        [asked.python, str(planner)],
        input="".join(json.dumps(item) + "\n" for item in questions),
        env=os.environ | {"MEMPLAN_ORACLE_DEVICE": device},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        print(run.stderr[-2000:], file=sys.stderr)
        return 2
    _, *answers = run.stdout.splitlines()
    wrong = failed = refused = 0
    for question, line in zip(questions, answers, strict=True):
        there = json.loads(line)
        if "refused" in there and not any(words in there["refused"] for words in REFUSALS):
            failed += 1
            print(f"{question['name']} was not built: {there['refused']:.200}")
            continue
        refused += "refused" in there
        here = ours(served, question)
        if unlike(here, there):
            wrong += 1
            print(f"{question['name']} {question['args']}\n  memplan {here}\n  engine  {there}")
    counted = f"{len(questions)} draws, {refused} of them refused, {wrong} differ, {failed} not built"
    print(f"{asked.version}, {device}: {counted}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
