"""Every word of a recipe changes a step's time, is refused, is about memory alone, or is named in the step's notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding
from memplan.models.training.step_recipe import Recipe, option_of
from memplan.serving import training_time

_BASE = Recipe(sequence=512)
_OF_MEMORY = {"held_logits", "cublas_workspace", "gpu", "forward_first", "deferred_head", "frozen_vision"}
_TOLD: dict[str, tuple[Any, ...]] = {
    "sequence": (1024,),
    "micro_batch": (2,),
    "micro_batches": (2,),
    "sharding": (Sharding.NONE, Sharding.FSDP2),
    "optimizer_instances": (2,),
    "schedule": (Schedule.ONE_F_ONE_B,),
    "chunks": (1,),
    "chunk_group": (3,),
    "run_layers": ((1, 3),),
    "recompute_layers": (2,),
    "loss": tuple(Loss)[1:],
    "held_logits": (2, 4),
    "lora_rank": (8,),
    "lora_targets": (("q_proj",),),
    "lora_fused": ((("q_proj", "k_proj", "v_proj"),),),
    "zero_memory_layers": (1,),
    "noop_layers": ((1,),),
    "mtp_layers": (1,),
    "padded_heads": (256,),
    "gpu": (Gpu.HOPPER,),
    "cublas_workspace": (32768,),
    "deferred_head": (2,),
    "exchange_pieces": (2,),
    "expert_capacity": (1.0,),
}
"""What words that are no yes or no are told to be."""


@pytest.fixture(scope="module")
def models(shared_data: Path) -> tuple[ModelConfig, ...]:
    """Dense, with experts, and with an indexer, of few layers each."""
    names = ("meta-llama--Meta-Llama-3.1-8B", "Qwen--Qwen3-30B-A3B", "deepseek-ai--DeepSeek-V3.2")
    loaded = (load_config(shared_data / "configs" / f"{name}.json") for name in names)
    return tuple(replace(model, layers=model.layers[-4:]) for model in loaded)


def _contexts(models: tuple[ModelConfig, ...]) -> Iterator[tuple[ModelConfig, Layout, Recipe]]:
    dense, experts, indexer = models
    eager, tensor = replace(_BASE, loss=Loss.EAGER), replace(_BASE, sequence=4096, sequence_parallel=True)
    yield dense, Layout(data=4), _BASE
    yield dense, Layout(tensor=2), tensor
    yield dense, Layout(context=2), replace(_BASE, ulysses=True)
    yield dense, Layout(data=2), replace(_BASE, sharding=Sharding.FSDP2)
    yield dense, Layout(), eager
    yield dense, Layout(), replace(_BASE, lora_rank=8)
    yield dense, Layout(), replace(_BASE, recompute_layers=4)
    yield dense, Layout(), replace(_BASE, attention_in_steps=True)
    interleaved = replace(_BASE, schedule=Schedule.INTERLEAVED, chunks=2, micro_batches=4)
    yield dense, Layout(pipeline=2), replace(_BASE, micro_batches=4)
    yield dense, Layout(pipeline=2), interleaved
    yield experts, Layout(data=2, expert=2), _BASE
    yield indexer, Layout(data=8, expert=8), _BASE


def _values(field: Field[Any]) -> tuple[Any, ...]:
    return _TOLD.get(field.name, (True, False))


def test_no_word_is_passed_over_in_silence(models: tuple[ModelConfig, ...]) -> None:
    """Went wrong: some twenty words, the loss among them, left a step as it was and nobody said so."""
    told = chip("910B3")
    usual: dict[int, int] = {}
    silent = []
    for field in fields(Recipe):
        outcomes = set()
        for number, (model, layout, recipe) in enumerate(_contexts(models)):
            if number not in usual:
                usual[number] = training_time(model, layout, recipe, told).duration_ns
            for value in _values(field):
                if getattr(recipe, field.name) == value:
                    continue
                try:
                    found = training_time(model, layout, replace(recipe, **{field.name: value}), told)
                except InputError:
                    continue
                named = any(option_of(field.name) in note.partition(":")[0].split(", ") for note in found.notes)
                moves = found.duration_ns != usual[number]
                outcomes.add("said" if named else "moves" if moves else "silent")
                assert not (named and moves), field.name
        if outcomes == {"silent"} and field.name not in _OF_MEMORY:
            silent.append(field.name)
    assert silent == []


def test_words_are_named_in_one_note(models: tuple[ModelConfig, ...]) -> None:
    recipe = replace(_BASE, silu_in_steps=True, loss=Loss.COPIED, held_logits=0)
    notes = training_time(models[0], Layout(), recipe, chip("910B3")).notes
    assert [note for note in notes if "not priced" in note] == [
        "--loss, --silu-in-steps: what this changes is not priced"
    ]
    usual = training_time(models[0], Layout(), _BASE, chip("910B3")).notes
    assert not any("not priced" in note for note in usual)
