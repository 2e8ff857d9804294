"""Steps of published models, bundled graphs and field cases that host moves are measured on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from memplan.cost import costs_and_advice, machine
from memplan.graph import Graph
from memplan.hardware import chip as find_chip
from memplan.hardware import host_tier
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, model_graph, training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.memory_layout import storages_of
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.rounding import rounding
from memplan.readers import read_graph
from memplan.schema.storages import planned_tensors

PROJECT = Path(__file__).resolve().parents[1]
Case = tuple[Callable[[], Graph], str]


def main_cases(data: Path) -> dict[str, Case]:
    """Graphs by name, with the chip that each is planned on."""

    def file(path: Path) -> Case:
        return lambda: read_graph(path), "910B3"

    def served(config: str, chip: str, step: ServedStep, layout: Layout | None = None) -> Case:
        return lambda: model_graph(
            load_config(data / "configs" / f"{config}.json"), None, layout or Layout(), step
        ), chip

    def trained(config: str, chip: str, layout: Layout, recipe: Recipe) -> Case:
        return lambda: training_graph(load_config(data / "configs" / f"{config}.json"), layout, recipe), chip

    samples, field = PROJECT / "memplan" / "samples", data / "field-cases" / "graphs"
    return {
        "sample cnn": file(samples / "cnn.mindir"),
        "sample llama_infer": file(samples / "llama_infer.mindir"),
        "sample llama_train": file(samples / "llama_train.mindir"),
        "paged decode": file(field / "03-host-moves-lose-updates" / "ascend_decode_paged.mindir"),
        "Qwen3-8B decode": served("Qwen--Qwen3-8B", "910B3", ServedStep(Phase.DECODE, batch=32, context=4096)),
        "Qwen3-8B prefill": served("Qwen--Qwen3-8B", "910B3", ServedStep(Phase.PREFILL, batch=1, context=8192)),
        "DeepSeek-R1 prefill": served("deepseek-ai--DeepSeek-R1", "910C",
                                      ServedStep(Phase.PREFILL, batch=2, context=4096, precision="w8a8"),
                                      Layout(tensor=8, data=2, expert=16)),
        "DeepSeek-V3 decode": served("deepseek-ai--DeepSeek-V3", "910C",
                                     ServedStep(Phase.DECODE, batch=64, context=4096, precision="w8a8"),
                                     Layout(data=64, expert=64)),
        "Llama-3.1-70B decode": served("meta-llama--Meta-Llama-3.1-70B", "910B3",
                                       ServedStep(Phase.DECODE, batch=16, context=8192), Layout(tensor=8)),
        "Mixtral prefill": served("mistralai--Mixtral-8x7B-v0.1", "910B3",
                                  ServedStep(Phase.PREFILL, batch=4, context=4096), Layout(tensor=8)),
        "Llama-3.1-8B training": trained("meta-llama--Meta-Llama-3.1-8B", "910B3", Layout(tensor=8),
                                         Recipe(sequence=8192)),
        "Qwen3-8B training": trained("Qwen--Qwen3-8B", "910B3", Layout(tensor=8),
                                     Recipe(sequence=4096, micro_batches=4)),
        "Qwen3-30B-A3B training": trained("Qwen--Qwen3-30B-A3B", "910B3", Layout(tensor=4, data=2, expert=8),
                                          Recipe(sequence=4096, micro_batches=2)),
        "DeepSeek-V3 training": trained("deepseek-ai--DeepSeek-V3", "910C", Layout(tensor=8, data=8, expert=64),
                                        Recipe(sequence=4096)),
    }  # fmt: skip


def other_cases(data: Path) -> dict[str, Case]:
    """Small models and last stages, where single tensors take much of the room, and sizes of other published models."""

    def decoded(config: str, layout: Layout, batch: int, context: int) -> Case:
        step = ServedStep(Phase.DECODE, batch=batch, context=context)
        return lambda: model_graph(load_config(data / "configs" / f"{config}.json"), None, layout, step), "910B3"

    def trained(config: str, layout: Layout, recipe: Recipe, stage: int = 0) -> Case:
        model = data / "configs" / f"{config}.json"
        return lambda: training_graph(load_config(model), layout, recipe, stage=stage), "910B3"

    return {
        "Qwen3-0.6B decode": decoded("Qwen--Qwen3-0.6B", Layout(), 16, 8192),
        "Qwen3-1.7B decode, batch 8": decoded("Qwen--Qwen3-1.7B", Layout(), 8, 4096),
        "Qwen3-1.7B decode, batch 32": decoded("Qwen--Qwen3-1.7B", Layout(), 32, 4096),
        "MiMo-7B decode": decoded("XiaomiMiMo--MiMo-7B-Base", Layout(), 24, 6144),
        "Qwen3-32B decode": decoded("Qwen--Qwen3-32B", Layout(tensor=4), 24, 8192),
        "gemma-3-27b decode": decoded("google--gemma-3-27b-it", Layout(tensor=2), 12, 8192),
        "gpt-oss-120b decode": decoded("openai--gpt-oss-120b", Layout(tensor=8), 32, 4096),
        "MiniMax-M2.5 decode": decoded("MiniMaxAI--MiniMax-M2.5", Layout(tensor=8, expert=8), 24, 4096),
        "Qwen3-0.6B training": trained("Qwen--Qwen3-0.6B", Layout(), Recipe(sequence=4096)),
        "Qwen3-0.6B training, last of 2 stages": trained(
            "Qwen--Qwen3-0.6B", Layout(pipeline=2, data=2), Recipe(sequence=4096, micro_batches=2), 1
        ),
        "Qwen3-1.7B training, last of 2 stages": trained(
            "Qwen--Qwen3-1.7B", Layout(tensor=2, pipeline=2), Recipe(sequence=4096), 1
        ),
        "Llama-3.1-8B training, first of 2 stages": trained(
            "meta-llama--Meta-Llama-3.1-8B", Layout(tensor=4, pipeline=2), Recipe(sequence=4096, micro_batches=2)
        ),
        "MiMo-7B training": trained("XiaomiMiMo--MiMo-7B-Base", Layout(tensor=8), Recipe(sequence=2048)),
    }


def published_model(data: Path, config: str) -> ModelConfig:
    """A model by the name of its file or of its folder among the field cases."""
    folder = data / "field-cases" / "kv" / config
    return load_config(folder / "config.json" if folder.is_dir() else data / "configs" / f"{config}.json")


def _served_and_trained(data: Path) -> tuple[Callable[..., Case], Callable[[str, Layout, Recipe], Case]]:
    """How cases of a served and of a training step of a model are made."""
    model = partial(published_model, data)

    def served(config: str, layout: Layout, batch: int, context: int, phase: Phase = Phase.DECODE) -> Case:
        return lambda: model_graph(
            model(config), None, layout, ServedStep(phase, batch=batch, context=context)
        ), "910B3"

    def trained(config: str, layout: Layout, recipe: Recipe) -> Case:
        return lambda: training_graph(model(config), layout, recipe), "910B3"

    return served, trained


def further_cases(data: Path) -> dict[str, Case]:
    """Families that are in neither of the others: narrow and wide heads, latent attention, mixtures of experts."""
    served, trained = _served_and_trained(data)
    long = Recipe(sequence=4096)
    return {
        "Phi-3-medium decode": served("49-family-phi3", Layout(), 16, 4096),
        "Hunyuan-A13B decode": served("53-family-hunyuan-v1-moe", Layout(tensor=8, expert=8), 24, 4096),
        "MiniCPM3-4B decode": served("56-family-minicpm3", Layout(), 16, 8192),
        "Phi-3.5-MoE decode": served("50-family-phimoe", Layout(tensor=4, expert=4), 32, 4096),
        "Llama-4-Scout prefill": served(
            "meta-llama--Llama-4-Scout-17B-16E-Instruct", Layout(tensor=8), 2, 4096, Phase.PREFILL
        ),
        "Seed-OSS-36B prefill": served("55-family-seed-oss", Layout(tensor=4), 1, 4096, Phase.PREFILL),
        "Phi-3-medium training": trained("49-family-phi3", Layout(tensor=2, pipeline=4), long),
        "GLM-4.7-Flash training": trained("45-family-glm4-moe-lite", Layout(data=4, pipeline=4, expert=4), long),
        "Seed-OSS-36B training": trained("55-family-seed-oss", Layout(tensor=8, pipeline=4), long),
        "MiniCPM3-4B training": trained("56-family-minicpm3", Layout(tensor=2, pipeline=4), long),
    }


def once_cases(data: Path) -> dict[str, Case]:
    """Models of which nothing was planned before these rows were first made."""
    served, trained = _served_and_trained(data)
    long = Recipe(sequence=4096)
    return {
        "InternLM3-8B decode": served("47-family-internlm3", Layout(tensor=2), 24, 6144),
        "Llama-3.1-405B decode": served("meta-llama--Meta-Llama-3.1-405B", Layout(tensor=8), 8, 8192),
        "Kimi-K2.5 prefill": served(
            "moonshotai--Kimi-K2.5", Layout(tensor=8, data=2, expert=16), 2, 4096, Phase.PREFILL
        ),
        "Mistral-3 decode": served("61-family-mistral3", Layout(tensor=4), 16, 4096),
        "openPangu-Embedded training": trained("51-family-panguembedded", Layout(tensor=2, pipeline=4), long),
        "Qwen3.5-35B-A3B training": trained("Qwen--Qwen3.5-35B-A3B", Layout(tensor=2, pipeline=4, expert=2), long),
    }


def later_cases(data: Path) -> dict[str, Case]:
    """Further families, dense, of experts, hybrid and with sparse attention, planned once as well."""
    served, trained = _served_and_trained(data)
    long = Recipe(sequence=4096)
    return {
        "GLM-4-32B decode": served("44-family-glm4", Layout(tensor=2), 24, 4096),
        "Gemma-4-31B decode": served("nvidia--Gemma-4-31B-IT-NVFP4", Layout(tensor=4), 16, 4096),
        "Nemotron-H-56B decode": served("nvidia--Nemotron-H-56B-Base-8K", Layout(tensor=8), 32, 8192),
        "Nemotron-3-Nano prefill": served(
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", Layout(tensor=2, expert=2), 1, 4096, Phase.PREFILL
        ),
        "Llama-4-Maverick decode": served(
            "meta-llama--Llama-4-Maverick-17B-128E-Instruct", Layout(tensor=8, data=2, expert=16), 16, 4096
        ),
        "DeepSeek-V4-Flash decode": served("deepseek-ai--DeepSeek-V4-Flash", Layout(tensor=8, expert=8), 32, 8192),
        "LongCat-Flash decode": served("59-family-longcat-flash", Layout(tensor=8, data=4, expert=32), 64, 4096),
        "Qwen3-VL-8B training": trained("Qwen--Qwen3-VL-8B-Instruct", Layout(tensor=4, pipeline=4), long),
        "GLM-4-32B training": trained("44-family-glm4", Layout(tensor=4, pipeline=2), long),
        "LongCat-Flash training": trained("59-family-longcat-flash", Layout(tensor=8, pipeline=4, expert=8), long),
        "Qwen3-235B-A22B training": trained(
            "Qwen--Qwen3-235B-A22B", Layout(tensor=4, pipeline=8, data=2, expert=8), long
        ),
    }


def hybrid_cases(data: Path) -> dict[str, Case]:
    """Hybrids, mixtures of experts, sparse attention and towers, none of which is in another suite."""
    served, trained = _served_and_trained(data)
    long = Recipe(sequence=4096)
    return {
        "Qwen3-VL-2B decode": served("Qwen--Qwen3-VL-2B-Instruct", Layout(), 12, 6144),
        "Qwen3-Next-80B-A3B decode": served("Qwen--Qwen3-Next-80B-A3B-Instruct", Layout(tensor=4, expert=4), 24, 4096),
        "Nemotron-Super-49B decode": served("nvidia--Llama-3_3-Nemotron-Super-49B-v1", Layout(tensor=4), 16, 4096),
        "Qwen3.5-397B-A17B decode": served("Qwen--Qwen3.5-397B-A17B", Layout(tensor=8, data=2, expert=16), 32, 4096),
        "Nemotron-3-Ultra decode": served(
            "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", Layout(tensor=8, data=2, expert=16), 16, 8192
        ),
        "MiniMax-M2.7 prefill": served("MiniMaxAI--MiniMax-M2.7", Layout(tensor=8, expert=8), 1, 4096, Phase.PREFILL),
        "Qwen3.6-27B prefill": served("nvidia--Qwen3.6-27B-NVFP4", Layout(tensor=2), 1, 4096, Phase.PREFILL),
        "DeepSeek-V3.2 training": trained("deepseek-ai--DeepSeek-V3.2", Layout(tensor=8, pipeline=16, expert=8), long),
        "Qwen3-VL-4B training": trained("Qwen--Qwen3-VL-4B-Instruct", Layout(tensor=2, pipeline=4), long),
        "Qwen3-Next-80B-A3B training": trained(
            "Qwen--Qwen3-Next-80B-A3B-Instruct", Layout(tensor=4, pipeline=8, expert=4), long
        ),
    }


def problem_of(graph: Graph, chip: str) -> MoveProblem:
    """What can be moved of `graph` on `chip`."""
    target = find_chip(chip)
    costs, _ = costs_and_advice(graph, machine(target))
    storages = storages_of(graph, planned_tensors(graph), rounding(target.npu_arch or ""))
    durations = np.array([cost.duration_ns for cost in costs], dtype=np.int64)
    host = host_tier(target)
    return move_problem(storages, durations, host)


def all_cases(data: Path) -> dict[str, Case]:
    """The steps of every suite by name."""
    return main_cases(data) | other_cases(data) | further_cases(data) | once_cases(data) | later_cases(data)
