"""`step_time`: how long one step takes on one rank, what it is spent on, and the tokens it yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.cost import machine
from memplan.engines import CAPTURED, DEFAULT_ENGINE, step_mode
from memplan.hardware import Chip
from memplan.hardware import chip as find_chip
from memplan.models.architecture import ModelConfig
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.compressed_attention import WindowedLatent
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import ONE_RANK, Layout
from memplan.models.routing import shared_evenly
from memplan.models.steps import Phase, ServedStep
from memplan.schema import Source
from memplan.serving.constants import (
    Constants,
    EngineHost,
    HostWork,
    accepted,
    attention_type,
    constants,
    engine_host,
    hidden_host_notes,
    host_interval,
    sources,
    step_interval,
)
from memplan.serving.stage_times import OpTime, StageTime, launches, stage_time

_UNFUSED = LatentAttention, WindowedLatent


@dataclass(frozen=True, slots=True)
class StepShare:
    """What one class of ops, or one limit, takes of a step: kernels launched and nanoseconds, overlaps not deducted."""

    name: str
    launches: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class StepTime:
    """
    Time of a step of a model in a layout.

    `duration_ns` is that of all stages in turn with the host's overhead. A decode step yields `tokens_per_sequence`
    (one, and the draft tokens accepted on average); `tpot_ns` is the time per token of one sequence,
    `tokens_per_second` what all ranks yield together and `tokens_per_second_per_die` one of them; a prefill's tokens
    are those it reads, and its duration is the time to the first token. `rests_on` names where rates come from,
    `constants` what a step costs beyond its kernels, `notes` what was left out. `host_ns` of the duration is what
    `engine` takes beyond the captured graph for `work`, `host_factor` times as long as other machines' hosts if that
    was told.
    """

    model: str
    chip: str
    layout: Layout
    step: ServedStep
    duration_ns: int
    tokens_per_sequence: float
    tpot_ns: int | None
    tokens_per_second: float
    tokens_per_second_per_die: float
    by_class: tuple[StepShare, ...]
    by_bound: tuple[StepShare, ...]
    stages: tuple[StageTime, ...]
    rests_on: tuple[Source, ...]
    constants: tuple[Source, ...]
    notes: tuple[str, ...]
    engine: str
    host_ns: int
    work: HostWork
    host_factor: float | None

    @property
    def sequences(self) -> int:
        """Sequences of one rank."""
        return self.work.sequences

    @property
    def hidden_host_ns(self) -> int:
        """Nanoseconds that it takes where the host is hidden, by the same kernels."""
        return self.duration_ns - self.host_ns

    @property
    def interval_ns(self) -> tuple[int, int]:
        """
        Between which the steps of four of five public rows lie that are predicted the same duration.

        Where the host is that of the machine, how hosts differ is in none.
        """
        share = self.host_ns / self.duration_ns if self.duration_ns and self.host_factor is None else 0.0
        low, high = step_interval(self.engine, share, duration_ns=self.duration_ns)
        return round(self.duration_ns * low), round(self.duration_ns * high)


def step_time(
    model: ModelConfig,
    layout: Layout,
    step: ServedStep,
    chip: str | Chip,
    *,
    acceptance: float | None = None,
    fixed: Constants | None = None,
    engine: str = DEFAULT_ENGINE,
    eager_drafts: bool = False,
    host_factor: float | None = None,
) -> StepTime:
    """
    Time of `step` of `model` on the ranks of `layout`, each one die of `chip`, served by `engine`: its name, that of a
    release (`vllm-ascend-0.11.0`) or one with graphs of its own (`vllm-ascend-eager`), as `step_mode` takes it.

    With `eager_drafts` the host launches the kernels of each draft one by one, as engines do that capture the model
    alone. `host_factor` is how many times as long the machine's own host takes as those of public runs
    (`found_host_factor` says it of a measured step).

    `acceptance` is how many of the draft tokens of a step are accepted on average, by default what public tables
    state, for an engine what services report. Raises `InputError` for a layout or a chip that can't be used.
    """
    die = chip if isinstance(chip, Chip) else find_chip(chip)
    core, table = machine(die), fixed or constants()
    notes: list[str] = []
    mode = step_mode(engine)
    engine, host = mode.name, engine_host(engine, alone=layout.ranks == 1)
    if eager_drafts and not host.launch_ns:
        raise InputError(
            "nothing is known of {} with {}", engine, "--eager-drafts", remedy="leave it out, or name vllm-ascend"
        )
    host = host.slower(1.0 if host_factor is None else host_factor)
    if engine != CAPTURED:
        notes.append("other requests' prompts in the same step are left out")
    notes.extend(routing_notes(model, layout, even=step.even_routing))
    by = attention_type(engine, reads=step.phase is Phase.PREFILL)
    run = replace(step, joined_recurrence=step.joined_recurrence or mode.joined_recurrence)
    stages = tuple(
        stage_time(model, layout, run, die, core, table, number, notes, by) for number in range(layout.pipeline)
    )
    hosted = _hosted(model, layout, step, stages, host, table.step_overhead_ns, eager_drafts=eager_drafts)
    duration = hosted.duration_ns
    if host_factor is None:
        notes.extend(_host_notes(hosted.host_ns, duration))
        notes.extend(hidden_host_notes(engine))
    if step.phase is Phase.DECODE:
        yielded = 1 + (accepted(step.speculative, engine) if acceptance is None else acceptance)
        tpot: int | None = round(duration / yielded)
    else:
        yielded, tpot = float(step.context - step.cached), None
    total = step.batch * yielded / hosted.pace_ns * 1e9
    ops = [item for stage in stages for item in stage.ops]
    return StepTime(
        model=model.name,
        chip=die.name,
        layout=layout,
        step=step,
        duration_ns=duration,
        tokens_per_sequence=yielded,
        tpot_ns=tpot,
        tokens_per_second=total,
        tokens_per_second_per_die=total / layout.ranks,
        by_class=_shares([(item.kind, item) for item in ops]),
        by_bound=_shares([(item.bound, item) for item in ops]),
        stages=stages,
        rests_on=(
            *core.sources,
            Source("constants of the serving model", "memplan/serving/constants.json gives the source of each"),
            Source(f"{engine} captures {mode.graphs} graphs, which have the host's time of {mode.mode}", mode.source),
        ),
        constants=sources(),
        notes=tuple(dict.fromkeys((*stages[0].graph.notes, *notes))),
        engine=engine,
        host_ns=hosted.host_ns,
        work=hosted.work,
        host_factor=host_factor,
    )


@dataclass(frozen=True, slots=True)
class _HostedStep:
    """
    A step with its host: `duration_ns` of all stages in turn, of which `host_ns` are beyond the captured graph.

    `pace_ns` is how far steps are apart with all stages busy on batches of their own: the slowest of them sets it.
    """

    work: HostWork
    duration_ns: int
    host_ns: int
    pace_ns: int


def _hosted(
    model: ModelConfig,
    layout: Layout,
    step: ServedStep,
    stages: Sequence[StageTime],
    host: EngineHost,
    overhead_ns: float,
    *,
    eager_drafts: bool,
) -> _HostedStep:
    """`stages` of `step` with what `host` takes, a graph of the model or of a draft `overhead_ns` to launch."""
    reads, sequences = step.phase is Phase.PREFILL, -(-step.batch // layout.data)
    work = HostWork(
        layers=step_layers(model, step),
        unfused=unfused_layers(model, step),
        recurrent=recurrent_layers(model, step),
        kernels=sum(stage.launches for stage in stages),
        drafted=_drafted(stages[-1].ops, len(model.layers)),
        sequences=sequences,
        tokens=sequences * (step.context - step.cached if reads else 1 + step.speculative),
    )
    launch = round((1 + step.speculative) * overhead_ns)
    captured = sum(stage.duration_ns for stage in stages) + launch
    duration = host.step(captured, work, reads=reads, eager_drafts=eager_drafts)
    # The last stage runs drafts.
    launched = (*[(overhead_ns, False)] * (layout.pipeline - 1), (launch, eager_drafts))
    pace = max(
        host.step(stage.duration_ns + graphs, work.staged(layout.pipeline), reads=reads, eager_drafts=own)
        for stage, (graphs, own) in zip(stages, launched, strict=True)
    )
    return _HostedStep(work, duration, duration - captured, pace)


def _host_notes(host_ns: int, duration_ns: int) -> list[str]:
    hosts = host_interval()
    if host_ns < hosts.at_least * duration_ns:
        return []
    return [
        f"the host sets this step: {host_ns / 1e6:.1f} of {duration_ns / 1e6:.1f} ms are its own; four of five public "
        f"hosts take {hosts.low:g} to {hosts.high:g} times as long as predicted, in containers with few processors "
        f"{hosts.contained_low:g} to {hosts.contained_high:g} times; --measured-step finds out how long this machine's "
        "takes"
    ]


def step_layers(model: ModelConfig, step: ServedStep) -> int:
    """Layers that `step` runs, one for each draft with them."""
    return len(model.layers) + step.speculative


def waits_for_busiest(model: ModelConfig, layout: Layout, *, even: bool) -> bool:
    """Whether time of `model` goes by how unevenly experts are chosen."""
    return not all(shared_evenly(layer.ffn, layout, even=even) for layer in model.layers)


def routing_notes(model: ModelConfig, layout: Layout = ONE_RANK, *, even: bool) -> tuple[str, ...]:
    """What to say of a mixture's time where its experts aren't `even`, in `layout` or in any."""
    if not waits_for_busiest(model, layout, even=even):
        return ()
    return (
        "nobody balanced the experts: ranks wait for that with most rows, and fewer experts get any where tokens are "
        "few; models differ in how unevenly, which the interval has no part of its own for; --even-routing balances "
        "them",
    )


def unfused_layers(model: ModelConfig, step: ServedStep) -> int:
    """Those of `step_layers` whose tokens are mixed by latent or compressed attention."""
    return sum(isinstance(mixer, _UNFUSED) for mixer in _mixers(model, step))


def recurrent_layers(model: ModelConfig, step: ServedStep) -> int:
    """Those of `step_layers` whose tokens are mixed by a recurrence, alone or beside attention."""
    others = (*_UNFUSED, GroupedAttention)
    return sum(mixer is not None and not isinstance(mixer, others) for mixer in _mixers(model, step))


def _mixers(model: ModelConfig, step: ServedStep) -> list[TokenMixer | None]:
    runs = model.predictions
    drafts = (runs[min(number, len(runs) - 1)] for number in range(step.speculative))
    return [layer.mixer for run in (model.layers, *drafts) for layer in run]


def _drafted(ops: Sequence[OpTime], layers: int) -> int:
    """Kernels of `ops` from the first of a draft's layer on, which stands behind the `layers` of the model."""
    kernels = [item.op for item in ops if item.duration_ns and launches(item.op)]
    places = (place for place, op in enumerate(kernels) if op.scope is not None and (op.scope.layer or 0) >= layers)
    return len(kernels) - next(places, len(kernels))


def _shares(items: Sequence[tuple[str, OpTime]]) -> tuple[StepShare, ...]:
    found: dict[str, tuple[int, int]] = {}
    for name, item in items:
        count, time = found.get(name, (0, 0))
        found[name] = count + launches(item.op), time + item.duration_ns
    ordered = sorted(found.items(), key=lambda pair: -pair[1][1])
    return tuple(StepShare(name, count, time) for name, (count, time) in ordered)
