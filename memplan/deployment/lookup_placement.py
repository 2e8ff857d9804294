"""
Where lookup tables can stand, how many tokens a second each place sustains, and what the cache gains.

A token reads a row of every hash of every layer with a table (Engram); ranks of tensor parallelism divide the hashes
among them (vllm 0.33.0 models/deepseek_v41/common/engram.py, `--engram-config`), so a rank reads its share of the rows.
Of per-layer inputs (Gemma 4) a token reads one row with all layers' elements; ranks divide the vocabulary, and a rank
reads its share on average. Engines have these on the dies unless told otherwise.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.deployment.cases import Case
from memplan.hardware import link
from memplan.models.parallel import ONE_RANK, Layout, rank_elements, rank_lookup_bytes, stage_spans
from memplan.models.precision import precision
from memplan.models.steps import Phase, ServedStep
from memplan.models.weights import PER_LAYER_TABLE, outer_weights
from memplan.serving import step_time

_TENSOR = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class LookupPlace:
    """
    One place for the tables: bytes of them on a die and in host memory for the whole layout, and the link that rows
    come over with its rate in bytes a second.

    `tokens_per_second` of one replica (a group of tensor parallelism) make the link busy all the time; reads are small
    and scattered, so it is an upper bound, as `serial`, with one read at a time, is a lower one (`None` where the
    latency is not known); to keep up with prompts, `in_flight` reads of a die have to be under way. `cache` bytes of a
    die are left for the KV cache, of `sequences`. `refused` says why the place can't be had.
    """

    name: Sentence
    on_die: int
    on_host: int
    link: str
    rate: float | None
    rests_on: str
    tokens_per_second: float | None
    serial: float | None
    in_flight: float | None
    cache: int
    sequences: int
    refused: Text = ""


@dataclass(frozen=True, slots=True)
class LookupPlacements:
    """
    The `places`, the `rows` and bytes a token reads in all layers, and what one replica serves: tokens a second while
    it decodes all sequences that fit beside host tables, and while it reads prompts (`None` where that can't be timed).

    A die then reads `decoding_rate` and `reading_rate` bytes a second of rows: what a place has to give not to be what
    bounds the replica, wherever it is. `least_tensor` is the smallest tensor parallelism whose dies hold the tables and
    a sequence, `None` for none. `rank_bytes` are what a rank reads of a token.
    """

    places: tuple[LookupPlace, ...]
    rows: int
    token_bytes: int
    decoding: float | None
    reading: float | None
    least_tensor: int | None
    rank_bytes: int

    @property
    def decoding_rate(self) -> float | None:
        """Bytes of rows a second that a die reads while decoding."""
        return None if self.decoding is None else self.decoding * self.rank_bytes

    @property
    def reading_rate(self) -> float | None:
        """Bytes of rows a second that a die reads while prompts are read."""
        return None if self.reading is None else self.reading * self.rank_bytes


@dataclass(frozen=True, slots=True)
class _Tables:
    """
    The tables of a model: `whole` bytes, `mine` on one rank of the layout, of which `resident` are in the case's own
    budget; what a token reads: `token` bytes in `rows` rows. `heads` are the hashes of a layer, 0 for tables that
    divide among any ranks.
    """

    whole: int
    mine: int
    resident: int
    token: int
    rows: int
    heads: int


def lookup_placements(case: Case) -> LookupPlacements | None:
    """
    The places of the tables of the case's model; `None` for a model without any.

    Raises `InputError` where the case itself can't be planned.
    """
    found = _tables(case, case.layout)
    if found is None:
        return None
    layout = case.layout
    host = _with_tables(case, -found.resident).budget()
    reading = _rate(case, Phase.PREFILL, 1, case.started().options.batched_tokens or case.engine.batched_tokens)
    whole = found.whole
    places = [
        _place(
            case, Sentence("HBM, divided by tensor parallelism"), found.mine, 0, None, found, layout.tensor, reading
        ),
        _place(
            case, Sentence("host memory, a copy for each replica"), 0, whole * layout.data, "h2d", found, 1, reading
        ),
        _place(case, Sentence("host memory, one copy shared"), 0, whole, "h2d", found, 1, reading),
        _place(case, Sentence("pool of host memory over UB"), 0, whole, "ub_host", found, 1, reading),
    ]
    ranks = layout.tensor * layout.data
    if layout.data > 1:
        peers = Sentence("HBM of all replicas, rows from peers")
        places.insert(1, _place(case, peers, -(-whole // ranks), 0, "ub", found, ranks, reading))
    return LookupPlacements(
        tuple(places),
        found.rows,
        found.token,
        _rate(case, Phase.DECODE, max(1, host.sequences), case.options.length),
        reading,
        _least_tensor(case, found.heads),
        -(-found.token // layout.tensor),
    )


def _tables(case: Case, layout: Layout) -> _Tables | None:
    model = case.model
    scheme = precision(case.served_precision, model)
    tables = [layer.lookup for layer in model.layers if layer.lookup is not None]
    if tables:
        spans = stage_spans(len(model.layers), layout)
        mine = max(rank_lookup_bytes(model, layout, scheme, span) for span in spans)
        whole = rank_lookup_bytes(model, ONE_RANK, scheme, range(len(model.layers)))
        rows = sum(table.heads for table in tables)
        token = round(whole / sum(table.rows for table in tables) * rows)
        heads = 0 if all(table.by_row for table in tables) else min(table.heads for table in tables)
        return _Tables(whole, mine, 0, token, rows, heads)
    own = next((weight for weight in outer_weights(model) if weight.name == PER_LAYER_TABLE), None)
    if own is None or model.per_layer_inputs is None:
        return None
    whole = scheme.bytes(own, own.elements)
    mine = scheme.bytes(own, rank_elements(own, layout))
    return _Tables(whole, mine, mine, round(whole / model.per_layer_inputs.vocab_size), 1, 0)


def _with_tables(case: Case, nbytes: int) -> Case:
    """The case with so many bytes of tables more on each die than its own budget has."""
    return replace(case, memory=replace(case.memory, workspace=(case.memory.workspace or 0) + nbytes))


def _place(
    case: Case,
    name: Sentence,
    on_die: int,
    on_host: int,
    over: str | None,
    tables: _Tables,
    shards: int,
    reading: float | None,
) -> LookupPlace:
    refused: Text = ""
    latency: int | None = None
    rate, rests_on = case.chip.hbm_bytes_per_second, _hbm_source(case)
    if over is not None:
        try:
            found = link(case.chip, over)
        except InputError as error:
            rate, rests_on, refused = None, "", str(error)
        else:
            rate, rests_on, latency = found.bytes_per_second, found.source, found.latency_ns
    if tables.heads % shards if tables.heads else False:
        refused = Sentence("{} [hash|hashes] can't be divided among {} [rank|ranks]", (str(tables.heads), str(shards)))
    result = _with_tables(case, on_die - tables.resident).budget()
    tokens = None if rate is None else rate / -(-tables.token // case.layout.tensor)
    mine = tables.rows / case.layout.tensor if not tables.heads else -(-tables.rows // case.layout.tensor)
    return LookupPlace(
        name=name,
        on_die=on_die,
        on_host=on_host,
        link=over or "hbm",
        rate=rate,
        rests_on=rests_on,
        tokens_per_second=tokens,
        serial=1e9 / (mine * latency) if latency else None,
        in_flight=mine * reading * latency / 1e9 if latency and reading is not None else None,
        cache=result.available_bytes,
        sequences=result.sequences,
        refused=refused,
    )


def _hbm_source(case: Case) -> str:
    entry = case.chip.values.get("hbm_bw")
    return "" if entry is None else entry.source


def _rate(case: Case, phase: Phase, batch: int, tokens: int) -> float | None:
    """Tokens a second of one replica in a step of `phase`."""
    step = ServedStep(
        phase, batch * case.layout.data, tokens, precision=case.served_precision, even_routing=case.even_routing
    )
    with suppress(InputError):
        found = step_time(case.model, case.layout, step, case.chip, engine=case.host)
        return found.tokens_per_second / case.layout.data
    return None


def _least_tensor(case: Case, heads: int) -> int | None:
    """The smallest tensor parallelism, with as many experts a rank as now, that keeps the tables on the dies."""
    for tensor in _TENSOR:
        if heads and heads % tensor:
            continue
        layout = replace(case.layout, tensor=tensor)
        if layout.expert > 1:
            layout = replace(layout, expert=tensor * layout.data)
        tried = replace(case, layout=layout)
        with suppress(InputError):
            found = _tables(tried, layout)
            if found is not None and _with_tables(tried, found.mine - found.resident).budget().fits:
                return tensor
    return None
