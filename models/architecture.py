"""
What a `config.json` describes: the layers of a decoder, each a token mixer and a feed-forward part.

Sizes are elements. Nothing here knows a chip, an engine or a parallel layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memplan.models.cache_parts import CacheContent, CachePart, RecurrentShape
from memplan.models.feed_forward import Ffn, MoeFfn
from memplan.models.lengths import PublishedLength
from memplan.models.mixers.base import TokenMixer
from memplan.models.stored_weights import StoredWeights


@dataclass(frozen=True, slots=True)
class LookupTable:
    """
    A table of n-gram embeddings that a layer adds to the residual stream (Engram, DeepSeek-V4.1).

    Each token looks up a row of `width` elements in each of `heads` hashes, `rows` in all of them together; what is
    found is projected to one key for each residual stream and one value, and gates of stream and key weigh the value.
    With a `conv_kernel` what comes out passes a convolution over so many tokens, `dilation` apart, whose last inputs
    are kept of every sequence, by every rank (Qwen3.8-Flash-Next). Ranks of tensor parallelism divide the rows
    (`by_row`) or the hashes.
    """

    rows: int
    width: int
    heads: int
    conv_kernel: int = 0
    dilation: int = 1
    by_row: bool = False

    def caches(self, channels: int) -> tuple[CachePart, ...]:
        """The last inputs of a convolution of `channels`, if there is one."""
        if not self.conv_kernel:
            return ()
        kept = (self.conv_kernel - 1) * self.dilation
        shape = RecurrentShape(
            recurrence="short_convolution",
            heads=0,
            heads_name="heads",
            matrix=0,
            dtype="auto",
            kernel=kept + 1,
            channels=0,
            repeated=channels,
        )
        return (CachePart("lookup_state", CacheContent.RECURRENT, (), state=shape),)


@dataclass(frozen=True, slots=True)
class Layer:
    """
    One layer: what mixes tokens, what works on each token, and how many norms of the model's width it has.

    What `lookup` finds is added to the stream before both.
    """

    index: int
    mixer: TokenMixer | None
    ffn: Ffn | None
    norms: int = 2
    lookup: LookupTable | None = None


@dataclass(frozen=True, slots=True)
class PerLayerInputs:
    """A second embedding of `vocab_size` tokens gives every layer `width` elements of its own (Gemma 4)."""

    vocab_size: int
    width: int


@dataclass(frozen=True, slots=True)
class RotaryTable:
    """
    A cosine and a sine of `positions` positions for each pair of the `width` elements of a head that are turned.

    `kind` is how the positions are scaled, in the files' words; `deepseek_yarn` beside a latent, `compressed` beside
    compressed entries.
    """

    positions: int
    width: int
    kind: str


@dataclass(frozen=True, slots=True)
class HyperConnections:
    """
    The residual stream is `streams` times as wide; every block mixes the streams with learnt weights.

    Without a `learnt_head` the last block's own coefficients bring the streams together for the head. With a
    `low_rank` the streams are normalised and read through a product of that rank, and a block's output is added to each
    by a weight of its own (Qwen3.8-Flash-Next).
    """

    streams: int
    learnt_head: bool = True
    low_rank: int | None = None


@dataclass(frozen=True, slots=True)
class AlternatingStreams:
    """
    Of `streams` residual streams a layer works on one and corrects the others by learnt coefficients (AltUp); a product
    of two matrices of rank `low_rank` runs beside its attention (Laurel). Both are Gemma 3n's.
    """

    streams: int
    low_rank: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """
    How the published weights are stored.

    `method` is the file's own word. `linear_bits` and `expert_bits` are the bits of an element of a linear layer and
    of a routed expert, `group` how many elements share one scale of `scale_bits`; `None` means unquantised. Lookup
    tables have 8 bits and one 8-bit scale for `lookup_group` elements, or are unquantised where that is 0. `kv` is the
    type of the KV cache that the checkpoint brings scales for, `None` for none. `recipe` names the precision that the
    weights were quantised to where the file says only that; of the matrices within a layer that it names, `wide` are
    left in 16 bits and `narrow` are not. `said_by` is the field or the file that says it,
    nothing where `quantization_config` does. Weights are `integers` or floats; with `weight_only` activations stay in
    16 bits.
    """

    method: str
    linear_bits: int | None
    expert_bits: int | None
    linear_group: int
    expert_group: int
    linear_scale_bits: int
    expert_scale_bits: int
    expert_only: bool = False
    lookup_group: int = 0
    kv: str | None = None
    recipe: str = ""
    wide: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()
    said_by: str = ""
    integers: bool = False
    weight_only: bool = False


@dataclass(frozen=True, slots=True)
class VisionTower:
    """
    A vision encoder beside the decoder: its parameters, or `None` where its layout is not known here.

    `heads` of attention are split over the ranks of tensor parallelism, 0 where they are not known; of the parameters,
    `repeated` are on every rank. So many of the decoder's first layers take `deep_states` of it.
    """

    model_type: str
    parameters: int | None
    layers: int
    hidden_size: int
    heads: int = 0
    repeated: int = 0
    deep_states: int = 0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """
    A model as its `config.json` describes it.

    `family` is memplan's name of the architecture, `architecture` the class that the file names, if it does.
    `mtp_layers` are the layers of multi-token prediction that a checkpoint carries beside the decoder; engines load
    them only for speculative decoding, and parameter counts leave them out unless asked; one prediction runs through
    `mtp_span` of them, one behind the other. `attention_residuals`
    mixes the outputs of earlier blocks of layers into each part by a learnt vector and its norm. Norms have a
    `norm_bias` (layer norm) or none, the last may have no weights at all; `head_bias` is one of the head's;
    `position_rows` learnt positions are added to the embedding, whose sum a norm follows where there is an
    `embedding_norm`. `rotary` are the tables of positions that engines keep.
    `draft` is a model of its own that drafts for this one in the way called `draft_method`, in place of those layers;
    `draft_vocab` are the words that a draft has a head for, where they are fewer than those it reads.
    `unused_attention` is what a layer of attention would keep, where the file describes one and no layer attends.
    With a `media_prefix` the tokens of an image attend to each other in both directions.
    `published_length` is what the files say of the longest sequence.
    `stored` is what the checkpoint's files hold, where they lie beside the config. `notes` lists what was taken from a
    documented default and what is not modelled.
    """

    name: str
    model_type: str
    family: str
    hidden_size: int
    vocab_size: int
    max_positions: int
    tied_embeddings: bool
    dtype: str
    layers: tuple[Layer, ...]
    mtp_layers: tuple[Layer, ...] = ()
    mtp_span: int = 1
    architecture: str = ""
    draft: ModelConfig | None = None
    draft_method: str = ""
    draft_vocab: int = 0
    hyper: HyperConnections | None = None
    per_layer_inputs: PerLayerInputs | None = None
    alternating: AlternatingStreams | None = None
    attention_residuals: bool = False
    published_length: PublishedLength | None = None
    norm_bias: bool = False
    final_norm: bool = True
    head_bias: bool = False
    position_rows: int = 0
    embedding_norm: bool = False
    rotary: tuple[RotaryTable, ...] = ()
    vision: VisionTower | None = None
    media_prefix: bool = False
    unused_attention: tuple[CachePart, ...] = ()
    quantization: Quantization | None = None
    stored: StoredWeights | None = None
    origin: str = ""
    notes: tuple[str, ...] = field(default=())

    def layer_caches(self, layer: Layer) -> tuple[CachePart, ...]:
        """What `layer` keeps of a sequence."""
        kept = () if layer.mixer is None else layer.mixer.caches()
        if layer.lookup is None:
            return kept
        return *kept, *layer.lookup.caches(self.hidden_size * (1 if self.hyper is None else self.hyper.streams))

    @property
    def predictions(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers that each prediction of a further token runs through."""
        layers, span = self.mtp_layers, self.mtp_span
        return tuple(layers[first : first + span] for first in range(0, len(layers), span))

    @property
    def experts(self) -> MoeFfn | None:
        """The first mixture of experts, `None` for a model without any."""
        return next((layer.ffn for layer in self.layers if isinstance(layer.ffn, MoeFfn)), None)
