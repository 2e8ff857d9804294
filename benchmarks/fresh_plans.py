"""Plans that no benchmark has used: models of many families and graphs of MindSpore, in sizes that a seed draws."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import memplan
from memplan.findings.finding import threshold
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan, PlannedOp
from memplan.simulator.job_memory import room_share
from memplan.simulator.job_settings import MemoryTrouble
from memplan.simulator.noise import Chance

Choice = TypeVar("Choice")

_TESTED = Path(__file__).parents[1] / "tests" / "readers" / "data"
_FOLDERS = (Path(memplan.__file__).parent / "samples", _TESTED, _TESTED / "open")

_DENSE = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "glm4", "phi3", "olmo2", "internlm2", "starcoder2")
_EXPERTS = ("qwen3_moe", "mixtral", "deepseek_v3", "glm4_moe", "olmoe")
_CHIPS = ("910B1", "910B2", "910B3", "910B4", "910C", "950PR")
_CACHED = 0.05  # at most, of jobs as they are measured
_FEWEST = 5
"""Kernels of a step: with fewer, there are no places to plant anything at."""


class Draw:
    """Draws of one seed, the same on every machine."""

    def __init__(self, *seed: int) -> None:
        self._chance = Chance(*seed)

    def share(self) -> float:
        """A number in [0, 1)."""
        return float(self._chance.uniform(1)[0])

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.share() * len(choices))]

    def whole(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return low + int(self.share() * (high - low + 1))

    def number(self) -> int:
        """What seeds something else."""
        return int(self.share() * 10**8)


def fresh_plans(folder: Path, seed: int, *, models: int, graphs: int) -> dict[str, Plan]:
    """So many plans of models, half of them with experts, and of graphs; by names that tell what they are."""
    found: dict[str, Plan] = {}
    draw = Draw(seed, 1)
    makers = (_models(folder, draw), models), (_graphs(draw), graphs)
    for plans, count in makers:
        for name, plan in plans:
            if count <= 0:
                break
            if _has_room(plan) and len(computing_ops(plan)) >= _FEWEST:
                found[name] = plan
                count -= 1
    return found


def _has_room(plan: Plan) -> bool:
    """Whether a job of `plan` leaves memory free: else anybody would say that it lacks some."""
    room = room_share(plan, MemoryTrouble(cached=_CACHED))
    return plan.fits and (room is None or room >= threshold("headroom_share"))


def computing_ops(plan: Plan) -> list[PlannedOp]:
    """The ops of `plan` that launch kernels."""
    return [op for op in plan.ops if op.launches and op.duration_ns > 0]


def _models(folder: Path, draw: Draw) -> Iterator[tuple[str, Plan]]:
    number = 0
    while True:
        number += 1
        kind = draw.one_of(_EXPERTS if number % 2 else _DENSE)
        config = _config(kind, draw)
        path = folder / f"config-{number}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        phase = draw.one_of(("train", "train", "prefill", "decode"))
        tensor = draw.one_of([size for size in (1, 1, 2, 4, 8) if config["num_key_value_heads"] % size == 0])
        experts = config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts") or 1
        expert = draw.one_of((1, 4, 8, 16)) if experts % 16 == 0 else 1
        layout = Layout(tensor=tensor, data=max(expert // tensor, 1), expert=expert)
        recipe: Recipe | ServedStep
        if phase == "train":
            recipe = Recipe(
                sequence=draw.one_of((1024, 2048, 4096, 8192)),
                micro_batch=draw.one_of((1, 1, 2)),
                recompute_layers=draw.one_of((0, 0, 0, 1)),
            )
        else:
            served = draw.one_of((1, 2, 4)) if phase == "prefill" else draw.one_of((16, 32, 64, 128))
            recipe = ServedStep(Phase(phase), batch=served * layout.data, context=draw.one_of((1024, 2048, 4096, 8192)))
        chip = draw.one_of(_CHIPS)
        try:
            plan = memplan.plan(load_config(path), chip=chip, phase=phase, layout=layout, recipe=recipe)
        except memplan.InputError:
            continue
        yield f"{kind}-{number}-{phase}", plan


def _config(kind: str, draw: Draw) -> dict[str, Any]:
    """A configuration of family `kind`, in sizes of published models of it and between them."""
    hidden = draw.one_of((1024, 1536, 2048, 2560, 3072, 4096, 5120, 6144))
    head = draw.one_of((64, 128))
    heads = draw.one_of([count for count in (8, 16, 24, 32, 40, 64) if count * head <= 2 * hidden])
    config: dict[str, Any] = {
        "model_type": kind, "hidden_size": hidden, "num_hidden_layers": draw.whole(2, 12), "head_dim": head,
        "intermediate_size": 256 * round(hidden * (2.5 + 1.5 * draw.share()) / 256),
        "num_attention_heads": heads, "vocab_size": draw.one_of((32000, 64000, 100352, 128256, 151936)),
        "num_key_value_heads": draw.one_of([count for count in (1, 2, 4, 8, heads) if heads % count == 0]),
        "max_position_embeddings": 32768, "tie_word_embeddings": draw.share() < 0.3, "torch_dtype": "bfloat16",
    }  # fmt: skip
    if kind in ("phi3", "starcoder2", "internlm2", "olmo2", "glm4", "olmoe"):
        config["hidden_size"] = heads * head
    if kind in _EXPERTS:
        config["num_hidden_layers"] = draw.whole(2, 6)
        experts = {"mixtral": ("num_local_experts", (8, 16)), "deepseek_v3": ("n_routed_experts", (64, 128, 256)),
                   "glm4_moe": ("n_routed_experts", (64, 128, 160))}  # fmt: skip
        name, counts = experts.get(kind, ("num_experts", (32, 64, 128)))
        config |= {
            name: draw.one_of(counts), "num_experts_per_tok": draw.one_of((2, 4, 8)) if kind != "mixtral" else 2,
            "moe_intermediate_size": draw.one_of((768, 1024, 1536, 2048)), "decoder_sparse_step": 1,
            "mlp_only_layers": [], "norm_topk_prob": True, "n_shared_experts": 1, "first_k_dense_replace": 1,
        }  # fmt: skip
    if kind == "deepseek_v3":
        config |= {"kv_lora_rank": 512, "q_lora_rank": draw.one_of((768, 1536)), "qk_rope_head_dim": 64,
                   "v_head_dim": 128, "qk_nope_head_dim": 128, "num_key_value_heads": heads, "n_group": 8,
                   "topk_group": 4, "num_nextn_predict_layers": 0}  # fmt: skip
    if kind == "olmoe":
        config["intermediate_size"] = config["moe_intermediate_size"]
    return config


def _graphs(draw: Draw) -> Iterator[tuple[str, Plan]]:
    """Of MindSpore: small graphs whose open sizes are bound, and where it is installed cells that it compiles."""
    makers = (_filed, _compiled) if find_spec("mindspore") else (_filed,)
    number = 0
    while True:
        number += 1
        try:
            yield makers[number % len(makers)](draw, number)
        except memplan.InputError:
            continue


def _filed(draw: Draw, number: int) -> tuple[str, Plan]:
    batch, side = draw.one_of((8, 32, 128)), draw.one_of((32, 64, 128))
    sizes: dict[str, dict[str, tuple[int, ...]]] = {
        "lstm": {}, "mlp_train": {}, "control_flow": {}, "cnn": {}, "llama_train": {}, "llama_infer": {},
        "unet": {"x": (batch, 3, side, side)}, "mlp_Momentum": {"inputs0": (batch, 64)},
    }  # fmt: skip
    name = draw.one_of(tuple(sizes))
    path = next(path for folder in _FOLDERS if (path := folder / f"{name}.mindir").exists())
    return f"{name}-{number}-graph", memplan.plan(path, chip=draw.one_of(_CHIPS), shapes=sizes[name])


def _compiled(draw: Draw, number: int) -> tuple[str, Plan]:
    """A decoder or a convolutional network, as MindSpore compiles it."""
    import mindspore as ms
    import numpy as np

    from memplan.models.samples.decoder import DecoderShape, decoder, train_step
    from memplan.models.samples.small import alexnet, classifier_step, convolutional

    chip, trained = draw.one_of(_CHIPS), draw.share() < 0.6
    if draw.share() < 0.4:
        batch = draw.one_of((16, 32, 64, 128))
        network, side = draw.one_of(((alexnet, 224), (convolutional, 32)))
        images = ms.Tensor(np.zeros((batch, 3, side, side), dtype=np.float32))
        labels = ms.Tensor(np.zeros((batch,), dtype=np.int32))
        cell = classifier_step(network(), momentum=0.9) if trained else network()
        inputs = (images, labels) if trained else (images,)
        return f"{network.__name__}-{number}-graph", memplan.plan(cell.set_train(trained), *inputs, chip=chip)
    heads = draw.one_of((4, 8, 12))
    shape = DecoderShape(
        layers=draw.whole(2, 8), hidden=heads * draw.one_of((64, 128)), heads=heads, kv_heads=heads // 2,
        intermediate=draw.one_of((1024, 2048, 2816)), vocabulary=draw.one_of((2000, 8000)),
        sequence=draw.one_of((128, 256, 512, 1024)), batch=draw.whole(1, 4),
    )  # fmt: skip
    tokens = ms.Tensor(np.zeros((shape.batch, shape.sequence), dtype=np.int32))
    network = decoder(shape)
    cell = train_step(network, shape.vocabulary) if trained else network
    inputs = (tokens, tokens) if trained else (tokens,)
    return f"decoder-{number}-graph", memplan.plan(cell.set_train(trained), *inputs, chip=chip)
