"""
Where lookup tables (Engram) can stand, how many tokens a second each place sustains, and what the cache gains.

A token reads a row of every hash of every layer with a table; ranks of tensor parallelism divide the hashes among them
(vllm 0.33.0 models/deepseek_v41/common/engram.py, `--engram-config`), so a rank reads its share of the rows.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.deployment.cases import Case
from memplan.hardware import link
from memplan.kv.served_weights import served_weights
from memplan.models.parallel import Layout, rank_lookup_bytes, stage_spans
from memplan.models.precision import precision
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time

_TENSOR = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class LookupPlace:
    """
    One place for the tables: bytes of them on a die and in host memory for the whole layout, and the link that rows
    come over with its rate in bytes a second.

    `tokens_per_second` of one replica (a group of tensor parallelism) make the link busy all the time; reads are small
    and scattered, so it is an upper bound, as `serial`, with one read at a time, is a lower one (`None` where the
    latency is not known). `cache` bytes of a die are left for the KV cache, of `sequences`. `refused` says why the
    place can't be had.
    """

    name: Sentence
    on_die: int
    on_host: int
    link: str
    rate: float | None
    rests_on: str
    tokens_per_second: float | None
    serial: float | None
    cache: int
    sequences: int
    refused: Text = ""


@dataclass(frozen=True, slots=True)
class LookupPlacements:
    """
    The `places`, the `rows` and bytes a token reads in all layers, and what one replica serves: tokens a second while
    it decodes all sequences that fit beside host tables, and while it reads prompts (`None` where that can't be timed).

    `least_tensor` is the smallest tensor parallelism whose dies hold the tables and a sequence, `None` for none.
    """

    places: tuple[LookupPlace, ...]
    rows: int
    token_bytes: int
    decoding: float | None
    reading: float | None
    least_tensor: int | None


@dataclass(frozen=True, slots=True)
class _Reads:
    """What a token reads: `token` bytes in `rows` rows, of `heads` hashes a layer."""

    token: int
    rows: int
    heads: int


def lookup_placements(case: Case) -> LookupPlacements | None:
    """
    The places of the tables of the case's model; `None` for a model without any.

    Raises `InputError` where the case itself can't be planned.
    """
    tables = [layer.lookup for layer in case.model.layers if layer.lookup is not None]
    if not tables:
        return None
    rows = sum(table.heads for table in tables)
    layout = case.layout
    whole = _table_bytes(case, replace(layout, tensor=1, data=1, expert=1))
    token = round(whole / sum(table.rows for table in tables) * rows)
    mine = _table_bytes(case, layout)
    heads = min(table.heads for table in tables)
    reads, host = _Reads(token, rows, heads), case.budget()
    places = [
        _place(case, Sentence("HBM, divided by tensor parallelism"), mine, 0, None, reads, layout.tensor),
        _place(case, Sentence("host memory, a copy for each replica"), 0, whole * layout.data, "h2d", reads, 1),
        _place(case, Sentence("host memory, one copy shared"), 0, whole, "h2d", reads, 1),
        _place(case, Sentence("pool of host memory over UB"), 0, whole, "ub_host", reads, 1),
    ]
    ranks = layout.tensor * layout.data
    if layout.data > 1:
        peers = Sentence("HBM of all replicas, rows from peers")
        places.insert(1, _place(case, peers, -(-whole // ranks), 0, "ub", reads, ranks))
    return LookupPlacements(
        tuple(places),
        rows,
        token,
        _rate(case, Phase.DECODE, max(1, host.sequences), case.options.length),
        _rate(case, Phase.PREFILL, 1, case.options.batched_tokens or case.engine.batched_tokens),
        _least_tensor(case, heads),
    )


def _table_bytes(case: Case, layout: Layout) -> int:
    served = served_weights(case.model, case.chip, case.memory.precision)
    scheme = precision(served.precision, case.model)
    spans = stage_spans(len(case.model.layers), layout)
    return max(rank_lookup_bytes(case.model, layout, scheme, span) for span in spans)


def _with_tables(case: Case, nbytes: int) -> Case:
    """The case with so many bytes of tables on each die."""
    return replace(case, memory=replace(case.memory, workspace=(case.memory.workspace or 0) + nbytes))


def _place(
    case: Case, name: Sentence, on_die: int, on_host: int, over: str | None, reads: _Reads, shards: int
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
    if reads.heads % shards:
        refused = Sentence("{} hashes can't be divided among {} ranks", (str(reads.heads), str(shards)))
    result = _with_tables(case, on_die).budget()
    tokens = None if rate is None else rate / -(-reads.token // case.layout.tensor)
    mine = -(-reads.rows // case.layout.tensor)
    return LookupPlace(
        name=name,
        on_die=on_die,
        on_host=on_host,
        link=over or "hbm",
        rate=rate,
        rests_on=rests_on,
        tokens_per_second=tokens,
        serial=1e9 / (mine * latency) if latency else None,
        cache=result.available_bytes,
        sequences=result.sequences,
        refused=refused,
    )


def _hbm_source(case: Case) -> str:
    entry = case.chip.values.get("hbm_bw")
    return "" if entry is None else entry.source


def _rate(case: Case, phase: Phase, batch: int, tokens: int) -> float | None:
    """Tokens a second of one replica in a step of `phase`."""
    step = ServedStep(phase, batch * case.layout.data, tokens, precision=case.memory.precision)
    with suppress(InputError):
        return step_time(case.model, case.layout, step, case.chip).tokens_per_second / case.layout.data
    return None


def _least_tensor(case: Case, heads: int) -> int | None:
    """The smallest tensor parallelism, with as many experts a rank as now, that keeps the tables on the dies."""
    for tensor in _TENSOR:
        if heads % tensor:
            continue
        layout = replace(case.layout, tensor=tensor)
        if layout.expert > 1:
            layout = replace(layout, expert=tensor * layout.data)
        tried = replace(case, layout=layout)
        with suppress(InputError):
            if _with_tables(tried, _table_bytes(tried, layout)).budget().fits:
                return tensor
    return None
