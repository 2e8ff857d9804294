"""The KV cache of a served model as asked for, by a command line or by the window's form."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.core.errors import InputError
from memplan.core.options import argument, option, words
from memplan.core.units import parse_bytes, parse_size
from memplan.engines import DEFAULT_ENGINE
from memplan.requests.layout_request import LayoutRequest
from memplan.requests.step_request import even_routing_option

if TYPE_CHECKING:
    from memplan.deployment.cases import Case
    from memplan.kv import Engine

_SERVING, _MEMORY = "Serving", "Memory"


def step_sequences_option() -> Any:
    """The option of budgets and services: where both are asked for, one option says it for both."""
    about = "Most sequences of one step; by default 256."
    names = ("--max-num-seqs", "--max-running-requests")
    return option(*names, default=None, about=about, panel=_SERVING, least=1)


def utilization_option() -> Any:
    """The option of whatever plans with an engine's memory."""
    names = ("--utilization", "--gpu-memory-utilization", "--mem-fraction-static")
    return option(*names, default=None, about="Share of the memory the engine plans with.", panel=_MEMORY)


@dataclass(frozen=True)
class ServingRequest:
    """
    A model, a chip and an engine.

    `None` is the engine's, the chip's or the model's own default. Sizes are texts such as `64GiB`.
    """

    config: Path = field(metadata=argument("A model's config.json, or its folder."))
    chip: str = option("--chip", "-c", default="910B3", about="The chip, such as 910B3 or 910C.", always=True)
    engine: str = option(
        "--engine",
        default=DEFAULT_ENGINE,
        about="Serving engine, such as vllm-ascend, sglang, mindie or logical.",
        panel=_SERVING,
        always=True,
    )
    context: int | None = option(
        "--context",
        "--sequence",
        "-s",
        "--max-model-len",
        "--context-length",
        default=None,
        about="Longest sequence in tokens; by default the model's.",
        least=1,
    )
    fits_length: bool = option(
        "--fit-context", default=False, about="Shorten the longest sequence to what fits, as --max-model-len auto does."
    )
    batched_tokens: int | None = option(
        "--max-num-batched-tokens",
        "--chunked-prefill-size",
        default=None,
        about="Most tokens of one step.",
        panel=_SERVING,
        least=1,
    )
    weights: str = option(
        "--weights", default="published", about="published, bf16, w8a8, w4a8, mxfp8 or mxfp8-mxfp4.", panel=_MEMORY
    )
    utilization: float | None = utilization_option()
    hbm: str | None = option("--hbm", default=None, about="Size of the card, such as 64GiB.", panel=_MEMORY)


@dataclass(frozen=True)
class KvRequest(LayoutRequest, ServingRequest):
    """
    All that a KV budget follows from; the fields are the options of `memplan kv`.

    `batch` sequences of `context` tokens are wanted at once on one data-parallel rank.
    """

    family: str | None = option("--as", default=None, about="Read the model as one of this family, such as llama.")
    batch: int | None = option(
        "--batch", default=None, about="Also say the longest context for so many sequences at once.", least=1
    )
    block_size: int | None = option(
        "--block-size", "--page-size", default=None, about="Tokens of a block.", panel=_SERVING, least=1
    )
    step_sequences: int | None = step_sequences_option()
    asynchronous: bool | None = option(
        "--async-scheduling/--no-async-scheduling",
        default=None,
        about="Steps are scheduled ahead; by default as the engine does.",
        panel=_SERVING,
    )
    prefix_caching: bool | None = option(
        "--enable-prefix-caching/--no-enable-prefix-caching",
        default=None,
        about="Blocks are kept for later requests; by default as the engine does.",
        panel=_SERVING,
    )
    kv_dtype: str | None = option(
        "--kv-dtype", "--kv-cache-dtype", default=None, about="bf16, fp8, int8, fp8_ds_mla or sfa_c8.", panel=_SERVING
    )
    attention: str | None = option(
        "--attention-backend",
        default=None,
        about="The attention kernel by its name, such as FLASH_ATTN.",
        panel=_SERVING,
    )
    draft_tokens: int = option(
        "--num-speculative-tokens",
        default=0,
        about="Draft tokens, by the model's own MTP if nothing else is said.",
        panel=_SERVING,
        least=0,
    )
    draft_model: str | None = option(
        "--draft-model", default=None, about="The config.json of a model that drafts, or its folder.", panel=_SERVING
    )
    draft_method: str = option(
        "--draft-method",
        default="mtp",
        about="Who drafts: mtp, eagle, eagle3 or draft_model by --draft-model, or ngram.",
        panel=_SERVING,
    )
    blocks: int | None = option(
        "--num-gpu-blocks-override", default=None, about="Blocks of the cache, whatever fits.", panel=_SERVING, least=1
    )
    tower_mode: str = option(
        "--mm-encoder-tp-mode",
        default="weights",
        about="What TP divides of a vision tower: its weights, or data, where each rank holds all of it.",
        panel=_SERVING,
    )
    model_runner: str | None = option(
        "--model-runner", default=None, about="The engine's model runner, V1 or V2, where it matters.", panel=_SERVING
    )
    redundant_experts: int = option(
        "--redundant-experts",
        "--num-redundant-experts",
        "--ep-num-redundant-experts",
        default=0,
        about="Copies of experts in each layer (EPLB), on all ranks together.",
        panel=_MEMORY,
        least=0,
    )
    cache_memory: str | None = option(
        "--kv-cache-memory-bytes",
        "--kv-cache-memory",
        default=None,
        about="Memory of the cache, in place of what is left; the engine takes it as it is.",
        panel=_MEMORY,
    )
    index_c8: bool = option("--index-c8", default=False, about="Keys of the indexer in 8 bits.", panel=_SERVING)
    index_dtype: str | None = option(
        "--indexer-kv-dtype",
        default=None,
        about="Keys of the indexer: int8, fp8, as the engine has it.",
        panel=_SERVING,
    )
    state_dtype: str | None = option(
        "--mamba-ssm-cache-dtype",
        default=None,
        about="Recurrent states: float32, float16 or bfloat16; by default as the model says.",
        panel=_SERVING,
    )
    activations: str | None = option(
        "--activations", default=None, about="Peak of activations, in place of the estimate.", panel=_MEMORY
    )
    eager: bool = option(
        "--enforce-eager", default=False, about="The model runs uncompiled, and no graphs are captured.", panel=_MEMORY
    )
    graphs: str | None = option("--graph-memory", default=None, about="Memory of captured graphs.", panel=_MEMORY)
    hccl_buffer_mb: int | None = option(
        "--hccl-buffsize", default=None, about="HCCL_BUFFSIZE in MB; by default 200.", panel=_MEMORY, least=1
    )
    host_memory: str | None = option(
        "--host-memory", default=None, about="Also say what so much host memory a die adds.", panel=_MEMORY
    )
    pooled_memory: str | None = option(
        "--pooled-memory", default=None, about="Also say what so much memory of a UB pool a die adds.", panel=_MEMORY
    )
    against: str | None = option(
        "--against", default=None, about="Also say which rule of another engine changes how much, such as vllm-0.33.0."
    )
    tables: bool = option(
        "--lookup-tables",
        default=False,
        about="Also say where lookup tables (Engram) can stand, and what each place sustains.",
    )
    even_routing: bool = even_routing_option(_SERVING)
    effects: bool = option(
        "--effects", default=False, about="Also say what other block sizes, batches and KV types would do."
    )

    @property
    def command_line(self) -> str:
        """What to type for the same budget."""
        return shlex.join(["memplan", "kv", *words(self)])

    @property
    def memories(self) -> dict[str, tuple[int, str]]:
        """Memory asked about outside the die: its name, bytes, and the link it is read over."""
        asked = (("host", self.host_memory, "h2d"), ("pool", self.pooled_memory, "ub_host"))
        return {name: (parse_size(size), link) for name, size, link in asked if size is not None}

    def other_engine(self) -> Engine | None:
        """The engine to compare with; raises `InputError` for a name that is not known."""
        from memplan.hardware import chip as find_chip
        from memplan.kv import engine as find_engine

        return None if self.against is None else find_engine(self.against, find_chip(self.chip))

    def case(self) -> Case:
        """What is to be served; raises `InputError` for a file, a name, a size or an option that can't be used."""
        from memplan.deployment.cases import Case
        from memplan.hardware import chip as find_chip
        from memplan.kv import CacheOptions, Memory, ServingOptions
        from memplan.kv import engine as find_engine
        from memplan.kv.collective_buffers import HCCL_BUFFER_MB
        from memplan.kv.runnable import NGRAM
        from memplan.kv.sequence_lengths import sequence_lengths
        from memplan.models import load_config
        from memplan.models.drafts import with_draft

        if self.tower_mode not in ("weights", "data"):
            raise InputError("--mm-encoder-tp-mode is weights or data, not {!r:.40}", self.tower_mode)
        if self.model_runner not in (None, "V1", "V2"):
            raise InputError("--model-runner is V1 or V2, not {!r:.40}", self.model_runner)
        die = find_chip(self.chip)
        model = load_config(self.config, family=self.family)
        if self.draft_model is not None:
            method = "draft_model" if self.draft_method == "mtp" else self.draft_method
            model = with_draft(model, load_config(self.draft_model), method)
        elif self.draft_method not in ("mtp", NGRAM):
            raise InputError("{} drafts need --draft-model", self.draft_method)
        drafted = self.draft_tokens > 0 and self.draft_method != NGRAM
        engine = find_engine(self.engine, die)
        # Classes that can't have it so divide weights whatever is asked for.
        whole = self.tower_mode == "data" and model.model_type in engine.towers.whole
        return Case(
            model,
            die,
            engine,
            ServingOptions(
                length=self.context or sequence_lengths(model, engine.lengths).default,
                fits_length=self.fits_length,
                caches=CacheOptions(
                    block_size=self.block_size,
                    kv=self.kv_dtype,
                    attention=self.attention,
                    index_c8=self.index_c8,
                    index_kv=None if self.index_dtype == "auto" else self.index_dtype,
                    state_type=None if self.state_dtype == "auto" else self.state_dtype,
                    speculative_tokens=self.draft_tokens,
                    draft_method=self.draft_method,
                    mtp=drafted,
                ),
                batched_tokens=self.batched_tokens,
                asynchronous=self.asynchronous,
                prefix_caching=self.prefix_caching,
                requests=self.step_sequences,
                blocks=self.blocks,
                runner=self.model_runner,
            ),
            replace(self.layout, whole_towers=whole),
            Memory(
                precision=self.weights,
                utilization=self.utilization,
                hbm=_size(self.hbm),
                activations=_size(self.activations),
                graph=_size(self.graphs),
                eager=self.eager,
                cache=_bytes(self.cache_memory),
                redundant_experts=self.redundant_experts,
                sequences=self.step_sequences,
                hccl_buffer_mb=self.hccl_buffer_mb or HCCL_BUFFER_MB,
            ),
            even_routing=self.even_routing,
        )


def _bytes(text: str | None) -> int | None:
    """Bytes of an option that counts them itself, whose number needs no unit."""
    return None if text is None else parse_bytes(text)


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)
