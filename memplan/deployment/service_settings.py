"""Instances of an engine that a service can be made of: layouts and settings, and what each holds and takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes
from memplan.deployment.cases import Case
from memplan.deployment.layout_search import check_experts
from memplan.deployment.service_goal import Workload
from memplan.kv.budget_parts import KvBudget
from memplan.kv.kept_entries import block_sizes
from memplan.kv.settings import cache_types
from memplan.models import ModelConfig
from memplan.models.parallel import Layout

_TENSOR = (1, 2, 4, 8, 16)
_PIPELINE = (1, 2, 4, 8)
_MOST_RANKS = 256
_STEP_TYPES = {"bf16": "bf16", "int8": "int8", "fp8": "fp8", "fp8_ds_mla": "fp8", "sfa_c8": "int8"}
"""Types of caches as engines call them, and what an element of them is read as in a step."""


@dataclass(frozen=True, slots=True)
class ServiceSetting:
    """
    How one instance runs: its layout, `drafts` tokens a step, the engine's name of the cache's type (`None` as the
    engine chooses) and what a step reads it as, and the most tokens of a step.
    """

    layout: Layout
    drafts: int
    kv: str | None
    step_kv: str
    batched_tokens: int

    def __str__(self) -> str:
        parts = [str(self.layout)]
        if self.drafts:
            parts.append(f"{self.drafts} drafts")
        if self.kv is not None:
            parts.append(f"KV {self.kv}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class InstanceRoom:
    """
    What one rank of an instance holds: `sequences` of mean length, each of `sequence_bytes`, and bytes of its cache
    that a prompt of mean length takes (`prompt_bytes`). `whole` sequences of the longest length fit. `refused` says
    why the instance can't be had.
    """

    sequences: float
    sequence_bytes: int
    prompt_bytes: int
    whole: int
    refused: Text = ""


def instance_layouts(model: ModelConfig, most: int) -> Iterator[Layout]:
    """
    Layouts of one instance of at most `most` dies, smallest first; more of them serve more requests.

    Dense models gain nothing from data parallelism inside an instance; ranks that share experts do.
    """
    found = []
    for tensor in _TENSOR:
        found += [Layout(tensor=tensor, pipeline=pipeline) for pipeline in _PIPELINE]
        data = 1
        while model.experts is not None and tensor * data <= min(most, _MOST_RANKS):
            if tensor * data > 1:
                found.append(Layout(tensor=tensor, data=data, expert=tensor * data))
            data *= 2
    fitting = [layout for layout in found if layout.ranks <= most]
    yield from sorted(fitting, key=lambda layout: (layout.ranks, layout.pipeline, layout.expert > 1, layout.tensor))


def cache_choices(case: Case) -> Mapping[str, str | None]:
    """Cache types to try by what a step reads them as, the engine's own (`None`) first; one that is given, alone."""
    given = case.options.caches.kv
    kinds: dict[str, str | None] = {_STEP_TYPES.get(given or case.engine.default_kv or "bf16", "bf16"): given}
    for name in () if given is not None else cache_types(case.model, case.engine):
        if name in _STEP_TYPES:
            kinds.setdefault(_STEP_TYPES[name], name)
    if "fp8" in kinds and kinds.get("int8") == "int8":
        del kinds["int8"]  # as many bytes, read as fast
    return kinds


def setting_case(case: Case, setting: ServiceSetting, length: int) -> Case:
    """`case` run with `setting`, for sequences of `length` tokens."""
    mtp = setting.drafts > 0
    caches = replace(case.options.caches, kv=setting.kv, speculative_tokens=setting.drafts, mtp=mtp)
    options = replace(case.options, length=length, caches=caches, batched_tokens=setting.batched_tokens)
    return replace(case, layout=setting.layout, options=options)


def instance_room(case: Case, setting: ServiceSetting, load: Workload) -> InstanceRoom:
    """
    What one rank holds of the sequences of `load`: the mean one is half way through its answer.

    Windows hold the tokens of a whole step while a prompt is read, which prompts of one step share, and few after it.
    """
    try:
        check_experts(case.model, setting.layout)
        found = setting_case(case, setting, load.longest).budget()
        fixed = found.fixed_bytes_per_request and _fixed_while_decoding(case, setting, load.longest)
    except InputError as error:
        return InstanceRoom(0, 0, 0, 0, str(error))
    if not found.fits:
        return InstanceRoom(0, 0, 0, 0, _missing(found, load.longest))

    def held(tokens: float) -> float:
        return fixed + found.bytes_per_token * tokens

    mean, read = held(load.prompt + load.answer / 2), max(0, found.fixed_bytes_per_request - fixed)
    held_at_once = (found.available_bytes - read) / mean
    return InstanceRoom(held_at_once, round(mean), round(held(load.prompt)), found.sequences)


def _fixed_while_decoding(case: Case, setting: ServiceSetting, length: int) -> int:
    """Bytes that a sequence takes beside those of its tokens in steps that read no prompt."""
    few = replace(setting, batched_tokens=1 + setting.drafts)
    return setting_case(case, few, length).budget().fixed_bytes_per_request


def sequences_held(case: Case, room: InstanceRoom) -> float:
    """Sequences that run at once on a rank: those that fit, and no more than the engine of `case` schedules."""
    return min(room.sequences, float(case.options.requests or case.started().memory.step_sequences))


def _missing(result: KvBudget, length: int) -> Text:
    if result.refusal is not None and result.refusal.needed_bytes:
        return Sentence("the engine refuses to start: {}", (result.refusal.message,))
    words = "{} missing for one sequence of {} tokens"
    return Sentence(words, (format_bytes(result.missing_bytes), f"{length:,}"))


def best_block(case: Case, setting: ServiceSetting, load: Workload) -> tuple[int, int] | None:
    """The block size with which most sequences of `load` fit, and how many; `None` where the engine has one only."""
    sizes = block_sizes(case.model, case.engine) or ()
    if len(sizes) < 2 or case.options.caches.block_size is not None:
        return None
    found = []
    for size in sizes:
        tried = setting_case(case, setting, max(1, round(load.prompt + load.answer / 2)))
        caches = replace(tried.options.caches, block_size=size)
        try:
            result = replace(tried, options=replace(tried.options, caches=caches)).budget()
        except InputError:
            continue
        found.append((result.sequences, size))
    if not found:
        return None
    sequences, size = max(found)
    return size, sequences
