"""A plan as a policy of HyperParallel: which layers are recomputed, and which of a layer's activations are swapped."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.core.version import MEMPLAN_VERSION
from memplan.core.visible_text import visible_text
from memplan.export.training_facts import kept_activations, training_facts
from memplan.schema import Plan, Tier

_VERSION = "0.1.0 (March 2026)"
_SOURCE = "core/activation_checkpoint and platform/torch/activation_checkpoint"

_POLICY = '''
from hyper_parallel.core.activation_checkpoint import SwapManager, checkpoint_wrapper
from hyper_parallel.platform.torch.activation_checkpoint import ActivationPolicy, swap_wrapper


def _policy(sizes):
    def policy_fn(tensor):
        moved = tensor.numel() * tensor.element_size() in sizes
        return ActivationPolicy.SWAP if moved else ActivationPolicy.SAVE

    return policy_fn


def apply_plan(layers):
    """Wrap the layers of a model (a ModuleList) as the plan has it."""
    for number in RECOMPUTED:
        layers[number] = checkpoint_wrapper(layers[number])
    for number, sizes in SWAPPED.items():
        layers[number] = swap_wrapper(layers[number], _policy(sizes))
    swapped = sorted(SWAPPED)
    for first, second in zip(swapped, swapped[1:]):
        SwapManager().set_forward_prefetch_layer(layers[first], layers[second])
'''


def write_policy(plan: Plan, path: Path, progress: Progress) -> None:
    """
    Write a Python module with `apply_plan(layers)`.

    HyperParallel's policy sees tensors, not names: those of a layer are told apart by their bytes, and a size of which
    the plan moves some and keeps others is moved. Raises `InputError` for a plan that recomputes and moves nothing.
    """
    facts = training_facts(plan)
    progress(0, 1, "settings")
    numbers = facts["recompute_numbers"].value if "recompute_numbers" in facts else []
    recomputed = [layer for span in numbers for layer in _range(span)]
    moved = {move.tensor for move in plan.transfers if move.source is Tier.HBM and move.target is Tier.HOST}
    sizes: defaultdict[int, set[int]] = defaultdict(set)
    both = 0
    for layer, tensors in kept_activations(plan).items():
        own = {tensor.nbytes for tensor in tensors if tensor.index in moved}
        both += sum(1 for tensor in tensors if tensor.index not in moved and tensor.nbytes in own)
        if own and layer not in recomputed:
            sizes[layer] = own
    if not sizes and not recomputed:
        raise InputError(
            "the plan recomputes no layer and moves no activation of one: there is no policy to write",
            remedy="plan with less HBM (--hbm) or with --recompute-layers",
        )
    notes = [
        f"For HyperParallel {_VERSION}, {_SOURCE}, by memplan {MEMPLAN_VERSION}.",
        f"The plan of {plan.origin.graph} on {plan.chip}.",
    ]
    if "recompute_numbers" in facts:
        notes.append(f"RECOMPUTED: {facts['recompute_numbers'].reason}.")
    if "swapped_activations_mib" in facts:
        notes.append(f"SWAPPED, bytes of each layer's tensors: {facts['swapped_activations_mib'].reason}.")
    if both:
        notes.append(f"{both} tensors that the plan keeps have the size of one that it moves: they move too.")
    with replacing_file(path) as file:
        file.write("\n".join(f"# {visible_text(note)}" for note in notes))
        file.write(f"\nRECOMPUTED = {recomputed}\nSWAPPED = {{\n")
        for layer, own in sorted(sizes.items()):
            file.write(f"    {layer}: {sorted(own)},\n")
        file.write(f"}}\n{_POLICY}")


def _range(span: str) -> range:
    first, _, last = span.partition("-")
    return range(int(first), int(last or first) + 1)
