"""
What Mamba-2 keeps from forward to backward where its scan runs op by op, per token on one rank.

As MindSpeed-LLM's `ssm/state_space_duality.py` and `mamba_mixer.py` have it: keys and queries of every head, the decays
of every pair of tokens of a chunk, and the norm of what the gate lets through in float32. Context-parallel ranks
exchange their states (`state_space_context_parallel.py`), by an autograd function that keeps the decays before and
behind their exponential in float32 and makes everything else of a chunk anew. Releases before that exchange pad every
sample by a chunk: what the scan cuts into chunks is longer by it, and kept as a copy where it else is a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.core.errors import InputError
from memplan.models.architecture import Layer
from memplan.models.mixers.recurrent_mixers import Mamba2
from memplan.models.parallel import Layout
from memplan.models.training.phases import MemoryPart, recomputed_layer
from memplan.models.training.saved_item import Saved
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE = 2, 4
_CHUNKS_BACK = 5 * _SINGLE + 6 * _HALF
"""
Bytes of a pair of tokens of a chunk that the exchanging function's way back holds beside what was kept.

In float32 the gradient of the decays, masked, flipped, summed up and masked again; in 16 bits the decays, the products,
both multiplied, and the gradients of the three.
"""


def scan_in_steps(mixer: Mamba2, layout: Layout, recipe: Recipe) -> Iterator[Saved]:
    """
    The tensors of one such mixer, but the input of its first projection.

    Raises `InputError` for padded samples on context-parallel ranks, which no release had.
    """
    inner, heads, states = _inner(mixer, layout), mixer.heads / layout.tensor, _states(mixer, layout, recipe)
    longer = _longer(mixer, recipe)
    group = mixer.groups / layout.tensor
    convolved, keys = inner + 2 * group * mixer.state, heads * mixer.state
    final = inner * mixer.state * layout.context / recipe.sequence
    exchanged = layout.context > 1
    if exchanged and recipe.padded_scan:
        raise InputError("a scan that pads its samples on context-parallel ranks is not modelled")
    if exchanged:
        yield Saved("gate, inputs of the convolution and step sizes", "attention", _HALF * (inner + convolved + heads))
    yield Saved("inputs of the convolution, in its order", "attention", _HALF * convolved)
    yield Saved("convolution before its activation function", "attention", _HALF * convolved)
    yield Saved("values, and those times their step sizes", "attention", _HALF * inner * (2 + exchanged + longer - 1))
    if recipe.padded_scan:
        yield Saved("values, padded", "attention", longer * _HALF * inner)
    # Of one group the keys that meet a decay are a view of what all heads share.
    shared = _HALF * (group * mixer.state if group <= 1 and not recipe.padded_scan else keys)
    yield Saved("keys and queries of every head", "attention", longer * (3 * _HALF * keys + shared))
    if exchanged:
        yield Saved("decays of a chunk, and their logarithms", "attention", 2 * _SINGLE * heads * mixer.chunk)
        yield Saved("step sizes and decays of tokens", "attention", (6 * _HALF + 3 * _SINGLE) * heads)
        # A single sample's last state is a view of those of all chunks, which stay for it.
        chunks = 2 * states + (states if recipe.micro_batch == 1 else final)
        yield Saved("states of chunks", "attention", _HALF * chunks)
        yield Saved("states exchanged", "attention", (_HALF * layout.context + _SINGLE) * final)
    else:
        yield Saved("decays of a chunk", "attention", longer * _SINGLE * heads * mixer.chunk)
        products = longer * 3 * _HALF * heads * mixer.chunk
        yield Saved("decays in 16 bits, products, and both multiplied", "attention", products)
        yield Saved("step sizes and decays of tokens", "attention", longer * (5 * _HALF + 2 * _SINGLE) * heads)
        yield Saved("states of chunks", "attention", _HALF * (2 * states + final))
    yield Saved("what states add to the output", "attention", longer * _HALF * inner)
    if mixer.normed:
        yield Saved("output, gate, its activation function and their product", "attention", 4 * _SINGLE * inner)
        if recipe.norms_in_steps or recipe.gated_norm_in_steps:
            yield Saved("steps of the gated norm", "norm", _SINGLE * inner)
        yield Saved("statistics of the gated norm", "norm", _SINGLE * group)
    else:
        yield Saved("output and the activation function of its gate", "attention", 2 * _HALF * inner)
    yield Saved("gated output", "attention", _HALF * inner)


def scan_parts(
    layers: Sequence[Layer], kept: Sequence[tuple[Saved, ...]], layout: Layout, recipe: Recipe, tokens: float
) -> list[MemoryPart]:
    """
    What is alive of a scan that runs op by op beside what layers keep; empty with one kernel.

    It is so when the last layer's way forward ends, whose function holds what its projections made and what the norm
    does, or of context-parallel ranks when the gradients of a chunk's decays are summed up; by then what the norm kept
    is gone.
    """
    mixers = [layer.mixer for layer in layers if isinstance(layer.mixer, Mamba2)]
    if not mixers or not recipe.scan_in_steps:
        return []
    most = max(_alive(mixer, layout, recipe) for mixer in mixers)
    parts = [MemoryPart("steps of a scan", round(tokens * most), f"{most:,.0f} B a token of one layer")]
    if recipe.recompute_layers >= len(layers):
        parts.append(recomputed_layer(kept, tokens))
    return parts


def _alive(mixer: Mamba2, layout: Layout, recipe: Recipe) -> float:
    inner, heads = _inner(mixer, layout), mixer.heads / layout.tensor
    if layout.context > 1:
        gone = (4 * _SINGLE if mixer.normed else 2 * _HALF) + 2 * _HALF
        return heads * (_CHUNKS_BACK * mixer.chunk + 3 * _HALF * mixer.state) + (6 * _HALF - gone) * inner
    convolved = inner + 2 * _grouped(mixer, layout)
    projected = _HALF * (inner + convolved + heads)
    normed = _SINGLE if mixer.normed else 0
    return projected + _HALF * convolved + _HALF * _states(mixer, layout, recipe) + normed * inner


def _inner(mixer: Mamba2, layout: Layout) -> float:
    return mixer.inner / layout.tensor


def _grouped(mixer: Mamba2, layout: Layout) -> float:
    """Width of the keys, or queries, of a rank's groups."""
    return mixer.groups * mixer.state / layout.tensor


def _states(mixer: Mamba2, layout: Layout, recipe: Recipe) -> float:
    """Elements a token of the states that chunks begin with."""
    return _longer(mixer, recipe) * _inner(mixer, layout) * mixer.state / mixer.chunk


def _longer(mixer: Mamba2, recipe: Recipe) -> float:
    """How many times its length a sample has behind its padding."""
    padding = mixer.chunk - recipe.sequence % mixer.chunk if recipe.padded_scan else 0
    return 1 + padding / recipe.sequence
