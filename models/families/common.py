"""What the families share: the fields every decoder has, and how a `ModelConfig` is put together."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import MOST_LAYERS, Fields

_MOST_POSITIONS = 2**40


def divisor(fields: Fields, name: str, whole: int, whole_name: str) -> int:
    """The field `name`, which must divide `whole`."""
    value = fields.count(name)
    if whole % value:
        raise fields.wrong(name, Sentence("{} does not divide {} = {}", (value, whole_name, whole)))
    return value


def head_dim(fields: Fields, *, computed: bool) -> int:
    """Elements of a head; where `computed`, the published rule is width / heads when the file says nothing."""
    if fields.has("head_dim") or not computed:
        return fields.count("head_dim")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    if hidden % heads:
        raise fields.wrong("num_attention_heads", Sentence("{} does not divide hidden_size = {}", (heads, hidden)))
    return hidden // heads


def named_moe_layers(fields: Fields, layers: int) -> list[bool] | None:
    """Which layers hold experts where the file lists it in `mlp_layer_types`, else `None`."""
    if not fields.has("mlp_layer_types"):
        return None
    kinds = fields.list_of("mlp_layer_types", str, at_least=layers)
    for number, kind in enumerate(kinds):
        if kind not in ("dense", "sparse"):
            raise fields.wrong(f"mlp_layer_types[{number}]", Sentence("{!r} is neither 'dense' nor 'sparse'", (kind,)))
    return [kind == "sparse" for kind in kinds]


def moe_layers(fields: Fields, layers: int, first_dense: int, frequency: int = 1) -> list[bool]:
    """Which layers hold experts: those the file lists, else every `frequency`-th from `first_dense`."""
    named = named_moe_layers(fields, layers)
    if named is not None:
        return named
    return [index >= first_dense and index % frequency == 0 for index in range(layers)]


def indexed_layers(fields: Fields, layers: int) -> list[bool]:
    """Which layers attend to what an indexer picks, among linear ones: those the file lists, else every so many-th."""
    if not fields.has("layer_types"):
        every = fields.count_or("full_attention_interval", 4, least=1)
        return [(index + 1) % every == 0 for index in range(layers)]
    kinds = fields.list_of("layer_types", str, at_least=layers)
    for number, kind in enumerate(kinds):
        if kind not in ("linear_attention", "indexed_attention", "full_attention"):
            raise fields.wrong(
                f"layer_types[{number}]", Sentence("{!r:.40} is not an attention of {}", (kind, fields.family))
            )
    return [kind != "linear_attention" for kind in kinds]


def expert_ffn(fields: Fields, shared: int) -> MoeFfn:
    """Routed experts under DeepSeek's names, beside `shared` experts that every token passes."""
    intermediate = fields.count("moe_intermediate_size")
    return MoeFfn(
        experts=fields.count("n_routed_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=intermediate,
        shared_intermediate=intermediate * shared,
    )


def choose(sparse: Sequence[bool], expert: Ffn, dense: Ffn | None, fields: Fields) -> list[Ffn]:
    """The feed-forward part of every layer."""
    if dense is None and not all(sparse):
        dense = DenseFfn(fields.count("intermediate_size"))
    return [expert if is_sparse or dense is None else dense for is_sparse in sparse]


def assemble(
    fields: Fields,
    *,
    family: str,
    layers: Sequence[Layer],
    tied: bool,
    mtp_layers: Sequence[Layer] = (),
    mtp_span: int = 1,
    notes: Sequence[str] = (),
    positions: Sequence[str] = ("max_position_embeddings",),
) -> ModelConfig:
    """
    The model of `layers`; `tied` is what the family's configuration class takes where the file says nothing.

    `positions` are the names under which versions of the family give the longest sequence.
    """
    for expert in {layer.ffn for layer in layers if isinstance(layer.ffn, MoeFfn)}:
        if expert.per_token > expert.experts:
            raise fields.wrong(
                "num_experts_per_tok",
                Sentence(
                    "{} [expert|experts] a token are more than the {} there are", (expert.per_token, expert.experts)
                ),
            )
    return ModelConfig(
        name="",
        model_type=fields.text_or_none("model_type") or family,
        family=family,
        hidden_size=fields.count("hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=(
            fields.count(positions[0], most=_MOST_POSITIONS)
            if len(positions) == 1
            else fields.count_any(*positions, most=_MOST_POSITIONS)
        ),
        tied_embeddings=fields.flag("tie_word_embeddings", tied),
        dtype=fields.text_or_none("torch_dtype") or fields.text_or_none("dtype") or "bfloat16",
        layers=tuple(layers),
        mtp_layers=tuple(mtp_layers),
        mtp_span=mtp_span,
        notes=(*notes, *fields.noted),
    )


def numbered_mtp(count: int, after: int, *like: Layer) -> tuple[Layer, ...]:
    """The layers of `count` predictions behind layer `after - 1`, each built like `like`, mostly the decoder's last."""
    if count * len(like) > MOST_LAYERS:
        raise InputError("{} layers of multi-token prediction are more than any model has ({})", count, MOST_LAYERS)
    return tuple(Layer(after + at, one.mixer, one.ffn, one.norms) for at, one in enumerate(like * count))
