"""A training recipe as asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.core.options import option
from memplan.core.sentence import Sentence
from memplan.requests.kept_request import KeptRequest
from memplan.requests.layers_request import LayersRequest
from memplan.requests.schedule_request import ScheduleRequest
from memplan.requests.words import member_named, names_of, numbers_of

if TYPE_CHECKING:
    from memplan.models.architecture import ModelConfig
    from memplan.models.training.step_recipe import Recipe

_PANEL = "Recipe: what is trained"


@dataclass(frozen=True, kw_only=True)
class RecipeRequest(LayersRequest, KeptRequest, ScheduleRequest):
    """
    How a step is trained: its schedule, what it keeps, how its layers compute, and which weights learn.

    `given` names the fields that were said rather than left as by default.
    """

    loss: str = option(
        "--loss",
        default="in-place",
        about="in-place, copied, compiled, eager, inductor, chunked, pieces or fused.",
        panel=_PANEL,
    )
    held_logits: int = option(
        "--held-logits",
        default=0,
        about="With --loss eager: bytes a value of logits that the loop holds through the way back.",
        panel=_PANEL,
        least=0,
    )
    lora_rank: int = option(
        "--lora-rank", "--lora-r", default=0, about="Train adapters of this rank alone.", panel=_PANEL, least=0
    )
    lora_targets: str = option(
        "--lora-targets",
        "--lora-target-modules",
        default="",
        about="Projections with adapters, as q_proj,v_proj; all of attention and dense parts if not told.",
        panel=_PANEL,
    )
    lora_dropout: bool = option(
        "--lora-dropout", default=False, about="Adapters drop values of what they read, and keep a copy.", panel=_PANEL
    )
    lora_float32: bool = option(
        "--lora-float32",
        "--autocast-adapter-dtype",
        default=False,
        about="Adapters in float32 beside 16-bit weights, each with a copy of what it reads (PEFT).",
        panel=_PANEL,
    )
    lora_experts: bool = option("--lora-experts", default=False, about="Each expert has adapters too.", panel=_PANEL)
    lora_gathered: bool = option(
        "--lora-gathered",
        default=False,
        about="Adapters keep what sequence-parallel ranks gather for them, as Megatron-Bridge's do by default.",
        panel=_PANEL,
    )
    qlora: bool = option(
        "--qlora", default=False, about="Weights beside adapters stand in 4 bits where a layer is linear.", panel=_PANEL
    )
    reference_model: bool = option(
        "--reference-model",
        default=False,
        about="A second model of 16-bit weights stands beside, as in DPO.",
        panel=_PANEL,
    )
    frozen_vision: bool = option(
        "--frozen-vision",
        "--freeze-vision-tower",
        default=False,
        about="The vision tower is not trained: its weights stand in 16 bits.",
        panel=_PANEL,
    )
    given: frozenset[str] = frozenset()

    def recipe(self, sequence: int, micro_batches: int = 1) -> Recipe:
        """
        The recipe for samples of `sequence` tokens; raises `InputError` for words that are not known.

        `micro_batches` of a step are for a layout to say: `micro_batches_of`.
        """
        from memplan.models.projections import fused_projections, projections_called
        from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding
        from memplan.models.training.step_recipe import Recipe

        mine, whole = ({item.name for item in fields(kind)} for kind in (RecipeRequest, Recipe))
        given = {name: getattr(self, name) for name in mine & whole}
        # Those that are words, or have other names than the recipe's.
        given |= {
            "sequence": sequence,
            "micro_batches": micro_batches,
            "sharding": member_named(Sharding, self.sharding, "sharding"),
            "schedule": member_named(Schedule, self.schedule, "schedule"),
            "gpu": member_named(Gpu, self.gpu, "gpu"),
            "loss": member_named(Loss, self.loss, "loss"),
            "run_layers": numbers_of(self.run_layers, "--run-layers"),
            "noop_layers": numbers_of(self.noop_layers, "--noop-layers"),
            "lora_targets": tuple(own for name in self._targets() for own in projections_called(name)),
            "lora_fused": tuple(filter(None, map(fused_projections, self._targets()))),
            "four_bit_base": self.qlora,
            "grouped_experts": not self.split_experts,
            "alibi_masks": self.alibi,
            "fused_gradients": not self.split_gradients,
        }
        return Recipe(**given)

    def check_parts(self, model: ModelConfig) -> None:
        """Raise `InputError` for options about parts that `model` lacks, which would change nothing."""
        from memplan.models.feed_forward import DenseFfn, MoeFfn
        from memplan.models.mixers.compressed_attention import CompressedAttention
        from memplan.models.mixers.grouped_attention import GroupedAttention
        from memplan.models.mixers.latent_attention import LatentAttention
        from memplan.models.mixers.recurrent_mixers import Mamba2

        experts = [layer.ffn for layer in model.layers if isinstance(layer.ffn, MoeFfn)]
        dense = any(isinstance(layer.ffn, DenseFfn) for layer in model.layers)
        mixers = [layer.mixer for layer in model.layers]
        scans = any(isinstance(mixer, Mamba2) for mixer in mixers)
        latent = any(isinstance(mixer, LatentAttention) for mixer in mixers)
        sparse = [mixer for mixer in mixers if isinstance(mixer, LatentAttention | CompressedAttention)]
        indexed = any(mixer.indexer is not None for mixer in sparse)
        windows = any(isinstance(mixer, GroupedAttention) and mixer.window is not None for mixer in mixers)
        for name, there, part in (
            ("lora_experts", bool(experts), "experts"),
            ("split_experts", bool(experts), "experts"),
            ("zero_memory_layers", bool(experts), "experts"),
            ("weighted_activation", any(not ffn.gated for ffn in experts), "experts without a gate"),
            ("scan_in_steps", scans, "layers of Mamba-2"),
            ("gated_norm_in_steps", scans, "layers of Mamba-2"),
            ("padded_scan", scans, "layers of Mamba-2"),
            ("window_masks", windows, "sliding windows"),
            ("gathered_experts", bool(experts), "experts"),
            ("expert_capacity", bool(experts), "experts"),
            ("padded_heads", latent, "latent attention"),
            ("recompute_heads", latent, "latent attention"),
            ("recompute_dense", dense, "dense feed-forward parts"),
            ("recompute_experts", bool(experts), "experts"),
            ("recompute_shared", any(ffn.shared_intermediate for ffn in experts), "shared experts"),
            ("fused_indexer", indexed, "indexers"),
            ("fused_indexer_loss", indexed, "indexers"),
            ("frozen_vision", model.vision is not None, "a vision tower"),
        ):
            if getattr(self, name) and not there:
                flag = f"--{name.replace('_', '-')}"
                what = Sentence("{} is about {}, which {} lacks", (flag, Sentence(part), model.name))
                raise InputError(what, remedy="leave it out")
        self._check_targets(model)

    def _check_targets(self, model: ModelConfig) -> None:
        from memplan.models.projections import projections_called
        from memplan.models.training.adapters import adapted_projections

        targets = self._targets()
        if not targets:
            return
        known = adapted_projections(model, experts=self.lora_experts)
        for name in targets:
            if not set(known) & set(projections_called(name)):
                remedy = Sentence("known: {}", (", ".join(known),))
                raise InputError("no {} is called {!r:.40}", Sentence("projection"), name, remedy=remedy)

    def _targets(self) -> tuple[str, ...]:
        return names_of(self.lora_targets, "--lora-targets")
