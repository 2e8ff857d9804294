"""Plans that MindSpore and CANN made themselves, read from what they leave behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.imports.foreign import foreign_plan
from memplan.readers import ge
from memplan.readers.block_spans import BlockSpan, span_graph
from memplan.readers.content import read_content
from memplan.readers.mindspore import actor_set, somas
from memplan.readers.sniff import ContentKind, sniff
from memplan.schema import Plan, load_plan

_SOMAS = "MindSpore SOMAS"
_GE = "CANN graph engine"


def read_plan(path: str | Path) -> Plan:
    """
    The plan in a file: ours, or another planner's in SOMAS dumps and cache, actor sets with SOMAS on, GE logs and
    tables.

    What kind it is follows from its content. A plan without addresses (`static_op_mem*.csv`) has placements without
    offset. Raises `InputError` for anything else.
    """
    source = read_content(path)
    if source.kind is ContentKind.PLAN:
        return load_plan(path)
    if source.kind is ContentKind.SOMAS:
        dump = somas.parse_somas(source.text, path)
        graph = somas.somas_graph(dump)
        offsets = somas.offsets_by_storage(dump, graph)
        sizes = {storage: graph.tensors[storage].nbytes for storage in offsets}
        notes = (
            f"SOMAS would need {dump.upper_bound} bytes without reuse",
            f"SOMAS prints {dump.printed_lower_bound} bytes as its lower bound",
            *_beside_total(dump.total, dump.result),
        )
        return foreign_plan(graph, offsets, sizes, allocator=_SOMAS, notes=notes)
    if source.kind in (ContentKind.ACTOR_SET, ContentKind.PLACED_ACTOR_SET):
        found = actor_set.actor_graph(actor_set.parse_actor_set(source.text, path))
        if not found.offsets:
            raise InputError(
                "this actor set has no addresses: SOMAS was off", path=path, remedy="compile with optimize_level='O1'"
            )
        return foreign_plan(found.graph, found.offsets, found.sizes, allocator=_SOMAS)
    if source.kind is ContentKind.SOMAS_CACHE:
        cache = somas.parse_somas_cache(source.document, path)
        rows = [
            BlockSpan(f"tensor {t.id}", "unknown", t.original_size, t.start, t.end, t.offset, t.aligned_size)
            for t in cache.tensors
        ]
        top = max((tensor.offset + tensor.aligned_size for tensor in cache.tensors), default=0)
        plan = _from_spans(rows, path, f"graph {cache.graph_id}", _SOMAS, _beside_total(cache.total, top))
        # It names tensors by number: which op runs at a step, it does not say.
        return replace(plan, ops=tuple(replace(op, launches=None) for op in plan.ops))
    if source.kind is ContentKind.GE_LOG:
        name, rows, found_notes = ge.parse_ge_log(source.text, path)
        return _from_spans(rows, path, name, _GE, found_notes)
    if source.kind is ContentKind.STATIC_OP_MEM:
        name, rows, found_notes = ge.parse_static_op_mem(source.text.splitlines(), path)
        return _from_spans(rows, path, name, _GE, found_notes)
    raise InputError(
        "this holds no plan that can be read: it is {}",
        Sentence(source.kind.value),
        path=path,
        remedy="name a plan of memplan, *_somas_tensor_offset_*.ir, somas_graph_*.json, actor_set/*.ir, a GE log or "
        "static_op_mem*.csv",
    )


_OF_PROFILES = (ContentKind.FOLDER, ContentKind.PROFILE_FILE, ContentKind.PROFILE_ARCHIVE)


def are_plans(before: str | Path, after: str | Path | None) -> bool:
    """
    Whether both hold plans, of whichever planner. Raises `InputError` for one plan beside anything else, or alone.

    Neither is read; what is not there or no plan is for the reader of profiles to say.
    """
    paths = [Path(path) for path in (before, after) if path is not None]
    kinds = [sniff(path) if path.is_file() else ContentKind.FOLDER for path in paths]
    if not any(kind.is_plan for kind in kinds):
        return False
    for path, kind in zip(paths, kinds, strict=True):
        if path.exists() and kind in _OF_PROFILES:
            raise InputError("a plan and a profile", path=path, remedy="use `memplan compare PLAN PROFILE`")
        if not kind.is_plan:
            why = Sentence("beside a plan, this is {}", (Sentence(kind.value),))
            if not path.exists():
                why = Sentence("can't be read: there is no such file")
            raise InputError(why, path=path, remedy="give two plans")
    if len(paths) < 2:
        raise InputError("this is one plan", path=paths[0], remedy="give a second plan to compare with")
    return True


def _from_spans(rows: list[BlockSpan], path: str | Path, name: str, planner: str, notes: tuple[str, ...]) -> Plan:
    try:
        found = span_graph(rows, name=name, origin=str(path), producer=planner)
    except InputError as error:
        raise InputError(error.message, path=path) from None
    offsets = dict(zip(found.storages, (row.offset for row in rows), strict=True))
    sizes = dict(zip(found.storages, (row.size for row in rows), strict=True))
    if found.written_over:
        notes += (
            f"{found.written_over} blocks begin where one of their address and size ends: taken as written over it",
        )
    return foreign_plan(found.graph, offsets, sizes, allocator=planner, notes=notes, unnamed=found.unnamed)


def _beside_total(stated: int | None, top: int) -> tuple[str, ...]:
    """What there is to say where the file's own total is not where its addresses end."""
    if stated is None or stated == top:
        return ()
    return (f"the file says {stated} bytes are used, its addresses end at {top}",)
