"""Labels of a measured profile: the run's plan, and what of an alignment with it the labels call right."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import memplan
from memplan.align import Alignment
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan

# What the labels call a part, and what the plan calls the ops that may be meant by it.
_FORWARD: Mapping[str, tuple[str, ...]] = {
    "embedding": ("embedding",),
    "input_norm": ("norm.0",),
    "qkv_proj": ("q_proj+k_proj+v_proj",),
    "qkv_split_copy": ("split",),
    "q_norm": ("q_norm",),
    "k_norm": ("k_norm",),
    "rope_q": ("q.angles", "q.rotary"),
    "rope_k": ("k.angles", "k.rotary"),
    "attention": ("attention",),
    "o_proj": ("o_proj",),
    "residual_add_1": ("attention.add",),
    "post_attn_norm": ("norm.1",),
    "gate_up_proj": ("gate_proj+up_proj",),
    "swiglu": ("activation",),
    "down_proj": ("down_proj",),
    "residual_add_2": ("ffn.add",),
    "send_recv": ("send", "receive", "send_gradient", "receive_gradient"),
    "grad_reduce_scatter": ("weights.exchange", "embedding.exchange"),
    "embedding_grad_allreduce": ("embedding.tie",),
    "param_gather": ("weights.gather", "embedding.gather"),
    "d_residual_add_1": ("norm.0.sum",),
    "d_residual_add_2": ("norm.1.sum",),
    "w_embedding": ("embedding.dw.sum", "embedding.dw"),
}

# What kernels in no plan are called.
UNPLANNED_LABELS: Mapping[str, str] = {
    "rope_freqs": "positions",
    "nan_check": "check for NaN",
    "grad_scale": "loss scaling",
    "grad_norm": "gradient norm",
    "clip": "gradient clipping",
    "param_cast": "copy of weights",
    "zero_grad": "gradients set to zero",
    "num_tokens": "counter",
    "status_reduce": "logging or status",
    "barrier": "logging or status",
    "timer_log": "logging or status",
}


_ENOUGH = 30
"""Matches from which a share of them is told."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What of one labelled kernel was found right: phase and micro-batch and layer, and its part or what it is.

    `coarse` is whether the label takes several planned parts for right, so that it can't check the probability of one.
    `probability` is NaN of a kernel that is not told apart.
    """

    part_label: str
    duration_us: float
    probability: float
    planned: bool
    collective: bool
    coarse: bool
    scope: bool
    part: bool

    @property
    def right(self) -> bool:
        """Whether all is."""
        return self.scope and self.part


def labelled(plan: Plan, found: Alignment, labels: Path) -> list[Verdict]:
    """The verdict on each kernel of a profile with labels (`data/labels/README`)."""
    with labels.open(encoding="utf-8", newline="") as file:
        return labelled_rows(plan, found, list(csv.DictReader(file)))


def labelled_rows(plan: Plan, found: Alignment, rows: Sequence[Mapping[str, str]]) -> list[Verdict]:
    """The same of labels that are read, one a kernel."""
    planned: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for op in plan.ops:
        micro_batch, layer = ("" if number is None else str(number) for number in (op.micro_batch, op.layer))
        planned[op.phase or "", micro_batch, layer].add(op.part or op.name)
    scopes, verdicts = found.scopes, []
    for place, row in enumerate(rows):
        what = _text(scopes.whats, int(scopes.what[place]))
        part = _text(scopes.parts, int(scopes.part[place]))
        verdicts.append(
            Verdict(
                row["part"],
                float(row["duration_us"]),
                float(scopes.probability[place]),
                not what,
                row["type"].startswith("hcom"),
                sum(_is_part(row["part"], name) for name in planned[row["phase"], row["micro_batch"], row["layer"]])
                > 1,
                _text(scopes.phases, int(scopes.phase[place])) == row["phase"]
                and _number(int(scopes.micro_batch[place])) == row["micro_batch"]
                and (_number(int(scopes.layer[place])) == row["layer"]),
                what == UNPLANNED_LABELS[row["part"]]
                if row["part"] in UNPLANNED_LABELS
                else _is_part(row["part"], part),
            )
        )
    return verdicts


def given_less_right(pairs: Sequence[tuple[float, bool]]) -> str:
    """Mean probability given less share right, by probability, where there are enough matches to tell."""
    words = []
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = [(chance, right) for chance, right in pairs if low <= chance < high]
        if len(inside) >= _ENOUGH:
            given, right = (float(np.mean([pair[side] for pair in inside])) for side in (0, 1))
            words.append(f"{low:g} to {min(high, 1.0):g}: {100 * (given - right):+.0f}")
    return ", ".join(words) + (" points" if words else "too few")


def verdicts_off(verdicts: Sequence[Verdict]) -> str:
    """The same of verdicts, where the label means one planned part."""
    return given_less_right([(item.probability, item.right) for item in verdicts if not item.coarse])


def _text(texts: Sequence[str], number: int) -> str:
    return texts[number] if number >= 0 else ""


def _number(value: int) -> str:
    return "" if value < 0 else str(value)


def _is_part(label: str, part: str) -> bool:
    if label in _FORWARD:
        return part in _FORWARD[label]
    if label == "grad_accumulate":
        return part.endswith((".add", ".gamma"))
    if label == "adam":
        return part.endswith(".adam")
    if label.startswith(("d_", "w_")):
        forward = _FORWARD.get(label[2:], ())
        ends = (".dx", ".grad") if label[0] == "d" else (".dw", ".grad")
        return any(part == name + end for name in forward for end in ends)
    return False


def labelled_plan(shared: Path) -> Plan:
    """The plan of the labelled run, from the model's config and the run's layout."""
    model = load_config(shared / "configs" / "Qwen--Qwen3-0.6B.json")
    recipe = Recipe(sequence=4096, micro_batch=1, micro_batches=2)
    return memplan.plan(training_graph(model, Layout(pipeline=2, data=2), recipe, stage=0), chip="910B4")
