"""The constants of the serving model, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields, replace
from math import inf
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.engines import CAPTURED, DEFAULT_ENGINE, engine_is_known, step_mode
from memplan.schema import Source


@dataclass(frozen=True, slots=True)
class Constants:
    """
    What a step costs beyond its kernels, in nanoseconds and bytes per second.

    `*_base_ns` is a collective of no bytes between few ranks, `*_rank_ns` what each further rank adds. `product_share`
    is what matrix products reach, in a running model, of the rate they have alone. `mixing_*` are those of reading
    hyper-connections, measured on vector cores that make `mixing_vector_hz` cycles a second together.
    """

    kernel_gap_ns: float
    product_share: float
    step_overhead_ns: float
    dispatch_base_ns: float
    dispatch_rank_ns: float
    dispatch_bytes_per_second: float
    combine_base_ns: float
    combine_rank_ns: float
    combine_bytes_per_second: float
    reference_link_bytes_per_second: float
    collective_base_ns: float
    beyond_server_base_ns: float
    collective_share: float
    mixing_base_ns: float
    mixing_direct_share: float
    mixing_element_ns: float
    mixing_vector_hz: float


def _document() -> Mapping[str, Any]:
    return table("memplan.serving", "constants.json")


def constants() -> Constants:
    """The constants as shipped."""
    entries = _document()["constants"]
    return Constants(**{field.name: float(entries[field.name]["value"]) for field in fields(Constants)})


@dataclass(frozen=True, slots=True)
class HostWork:
    """
    What a step has for its host: `layers`, of which `unfused` mix tokens by latent or compressed attention and
    `recurrent` by a recurrence, `kernels` to launch, `drafted` of them by its drafts, and `sequences` and `tokens` of a
    replica.
    """

    layers: int
    unfused: int
    recurrent: int
    kernels: int
    drafted: int
    sequences: int
    tokens: int

    def staged(self, stages: int) -> HostWork:
        """The part of one of so many pipeline stages."""
        return replace(
            self,
            layers=self.layers // stages,
            unfused=self.unfused // stages,
            recurrent=self.recurrent // stages,
            kernels=self.kernels // stages,
        )


@dataclass(frozen=True, slots=True)
class EngineHost:
    """
    What the host of an engine takes of a step, in nanoseconds.

    `step_ns` comes beside the kernels, and `sequence_ns` for each sequence: scheduler, inputs, sampling;
    `unfused_layer_ns` with each layer of latent or compressed attention, for which engines run kernels that reference
    stacks fuse; a layer of a recurrence counts as `recurrence_counts` of these, in steps that read prompts as
    `prompt_recurrence_counts`. Where the host launches while the step
    runs, a step that makes tokens takes no less in all than `layer_ns` a layer and `kernel_ns` a kernel, one that reads
    prompts than `launch_ns` a kernel and `prompt_unfused_layer_ns` with each such layer; one of up to `captured_tokens`
    tokens is captured in pieces and takes no less than `prompt_layer_ns` a layer. Drafts that are launched one by one
    take `launch_ns` for each of their kernels besides.
    `request_ns` is what a request takes beside all steps until its first token is with who asked.
    """

    step_ns: int
    sequence_ns: int
    unfused_layer_ns: int
    layer_ns: int
    prompt_layer_ns: int
    kernel_ns: int
    launch_ns: int
    prompt_unfused_layer_ns: int
    request_ns: int
    recurrence_counts: int
    prompt_recurrence_counts: int
    captured_tokens: int

    @property
    def hidden(self) -> bool:
        """Whether steps show nothing of it."""
        counts = dict.fromkeys(("request_ns", "recurrence_counts", "prompt_recurrence_counts", "captured_tokens"), 0)
        return not any(astuple(replace(self, **counts)))

    def step(self, captured_ns: float, work: HostWork, *, reads: bool, eager_drafts: bool = False) -> int:
        """The time of a step whose captured graph takes `captured_ns`, with drafts launched one by one."""
        beside = self.step_ns + work.sequences * self.sequence_ns + self.unfused(work) * self.unfused_layer_ns
        drafts = work.drafted * self.launch_ns if eager_drafts else 0
        return round(max(captured_ns + beside + drafts, self.launched(work, reads=reads)))

    def launched(self, work: HostWork, *, reads: bool) -> int:
        """The least that a step takes in which the host launches `work`."""
        if reads and work.tokens <= self.captured_tokens:
            return work.layers * self.prompt_layer_ns
        if reads:
            unfused = work.unfused + work.recurrent * self.prompt_recurrence_counts
            return work.kernels * self.launch_ns + unfused * self.prompt_unfused_layer_ns
        return work.layers * self.layer_ns + work.kernels * self.kernel_ns

    def unfused(self, work: HostWork) -> int:
        """Layers of `work` for which it runs kernels that reference stacks fuse, where tokens are made."""
        return work.unfused + work.recurrent * self.recurrence_counts

    def slower(self, factor: float) -> EngineHost:
        """A host that takes `factor` times as long for everything; raises `InputError` for one below 0 or infinite."""
        if not 0 <= factor < inf:
            raise InputError("a host can't take {:g} times as long", factor, remedy="give a number of 0 or more")
        return EngineHost(*(round(value * factor) for value in astuple(self))).counting_like(self)

    def counting_like(self, other: EngineHost) -> EngineHost:
        """A host that takes as long, and counts recurrences and captures steps as `other` does."""
        return replace(
            self,
            recurrence_counts=other.recurrence_counts,
            prompt_recurrence_counts=other.prompt_recurrence_counts,
            captured_tokens=other.captured_tokens,
        )


def engine_host(engine: str, *, alone: bool = False) -> EngineHost:
    """
    The host of `engine`, as `step_mode` takes its name; raises `InputError` naming those for one that is not known.

    Where one die serves (`alone`) the host launches pieces of graphs behind the kernels.
    """
    entry = _engine(engine)
    shared = {name: 0 if entry.get("hides_launches") else int(item["ns"]) for name, item in _launches().items()}
    pieces = int((entry.get("alone", {}) if alone else {}).get("layer_ns", entry.get("layer_ns", 0)))
    return EngineHost(
        step_ns=int(entry["host_step_ns"]),
        sequence_ns=int(entry.get("host_sequence_ns", 0)),
        unfused_layer_ns=int(entry.get("unfused_layer_ns", 0)),
        layer_ns=0 if entry.get("whole_decodes") else pieces,
        prompt_layer_ns=pieces,
        kernel_ns=shared["kernel"] if entry.get("launches_kernels") else 0,
        launch_ns=shared["kernel"],
        prompt_unfused_layer_ns=int(entry.get("prompt_unfused_layer_ns", 0)),
        request_ns=0 if engine == CAPTURED else int(_launches()["request"]["ns"]),
        recurrence_counts=int(entry.get("recurrence_counts", 0)),
        prompt_recurrence_counts=int(entry.get("prompt_recurrence_counts", 0)),
        captured_tokens=int(entry.get("captured_tokens", 0)),
    )


def attention_type(engine: str, *, reads: bool = False) -> str:
    """
    The operator by which steps of `engine` make tokens over keys in pages, or read prompts (`reads`).

    Releases with an older one read prompts by others.
    """
    mode = step_mode(engine)
    return str(_mode(mode.mode)["attention"] if reads else mode.attention or _mode(mode.mode)["attention"])


def _launches() -> Mapping[str, Any]:
    found: Mapping[str, Any] = _document()["launches"]
    return found


def _engine(engine: str) -> Mapping[str, Any]:
    """What is known of how `engine` runs steps; raises `InputError` for one that is not known."""
    return _mode(step_mode(engine).mode)


def _captured(engine: str) -> bool:
    """Whether its steps are those of reference stacks."""
    return step_mode(engine).mode == CAPTURED


def _mode(name: str) -> Mapping[str, Any]:
    """The entry called `name`, with what it leaves out as that has it that it is `like`."""
    entry: Mapping[str, Any] = _document()["engines"][name]
    if "like" not in entry:
        return entry
    base = _mode(str(entry["like"]))
    return {**base, **entry, "alone": {**base.get("alone", {}), **entry.get("alone", {})}}


def host_of(engine: str, asked: str | None = None, *, eager: bool = False) -> str:
    """
    Whose host time the steps of an engine called `engine` have: that `asked` for, else its own where it is known, or
    that of its `eager` steps.

    Raises `InputError` for one asked for that is not known, and for an engine of whose eager steps nothing is.
    """
    if asked is not None:
        return step_mode(asked).name
    return step_mode(engine, eager=eager).name if engine_is_known(engine) else CAPTURED


def step_interval(
    engine: str, host: float = 0.0, *, hosts: HostInterval | None = None, duration_ns: float | None = None
) -> tuple[float, float]:
    """
    Measured over predicted time of a step of `engine`: between these lie four of five public rows.

    The part `host` of it is the host's, which differs more from machine to machine than kernels do: the interval is as
    wide as what both say of their parts, where that is wider than what all steps say, and wider again at either end by
    what sources first seen need beyond those that rules were made from. `hosts` may be told otherwise than
    `host_interval` has them. Where an engine's host shows on some machines alone, a step predicted to take
    `duration_ns` may take that much longer besides.
    """
    told = _engine(engine)
    entry, hosts = told["interval"], hosts or host_interval()
    kernels = _engine(CAPTURED)["interval"]
    low = (1 - host) * float(kernels["low"]) + host * hosts.low
    high = (1 - host) * float(kernels["high"]) + host * hosts.high
    beside = 1 + float(told.get("beside_at_most_ns", 0)) / duration_ns if duration_ns else 1.0
    quicker, slower = (1.0, 1.0) if _captured(engine) else _first_seen()
    return min(float(entry["low"]), low) ** quicker, max(max(float(entry["high"]), high) ** slower, beside)


def _first_seen() -> tuple[float, float]:
    """By how much the lower and the upper end of intervals lie further off, as logarithms, for sources first seen."""
    entry = _document()["first_seen"]
    return float(entry["quicker"]), float(entry["slower"])


@dataclass(frozen=True, slots=True)
class HostInterval:
    """
    Measured over predicted time of hosts alone: between `low` and `high` for four of five public sources.

    They say so of steps of which the host takes `at_least` that part. In containers with few processors it took
    `contained_low` to `contained_high` times as long as predicted.
    """

    low: float
    high: float
    at_least: float
    contained_low: float
    contained_high: float


def host_interval() -> HostInterval:
    """How hosts differ from machine to machine."""
    entry = _document()["hosts"]
    return HostInterval(**{field.name: float(entry[field.name]) for field in fields(HostInterval)})


def hidden_host_notes(engine: str, option: str = "--engine") -> tuple[str, ...]:
    """What is said of an engine, which `option` names, whose host shows nowhere, or on some machines alone."""
    if _captured(engine):
        return (f"the host's work is taken to be hidden, as reference stacks have it: {option} names a served one",)
    most = float(_engine(engine).get("beside_at_most_ns", 0))
    if not most:
        return ()
    return (
        f"{engine}'s host takes little on servers of its maker, but up to {most / 1e6:g} ms more than this a step in "
        "containers with few processors: the interval counts them in, the time is between",
    )


def accepted(drafts: int, engine: str = DEFAULT_ENGINE, *, own_layers: bool = True) -> float:
    """
    Draft tokens of `drafts` that are accepted on average, by a model's `own_layers` or by another one.

    Steps of reference tables are counted with the chances that these state, those of engines with what services report.
    """
    own = "acceptance" if _captured(engine) else "served_acceptance"
    chances = _document()[own if own_layers else "drafted_acceptance"]
    return accepted_in_turn(drafts, float(chances["first"]), float(chances["further"]))


def accepted_in_turn(drafts: int, first: float, further: float) -> float:
    """Drafts that are accepted where the first one is with the chance `first`, and each further one by so much less."""
    return sum(first * further**turn for turn in range(drafts))


def sources() -> tuple[Source, ...]:
    """Every constant as text with where it comes from."""
    return (
        tuple(
            Source(f"{name} = {entry['value']:g}", entry["source"]) for name, entry in _document()["constants"].items()
        )
        + tuple(
            Source(
                f"host of a step, {name} = {entry['host_step_ns']:g} ns, "
                f"{entry.get('unfused_layer_ns', 0):g} ns a layer of other mixers than grouped attention, "
                f"{entry.get('host_sequence_ns', 0):g} ns a sequence, "
                f"at least {entry.get('layer_ns', 0):g} ns a layer{_of_prompts(entry)}, "
                f"{entry.get('prompt_unfused_layer_ns', 0):g} ns one of other mixers that reads prompts, "
                f"{entry.get('beside_at_most_ns', 0):g} ns more on some machines",
                entry["source"],
            )
            for name, entry in ((name, _mode(name)) for name in _document()["engines"])
        )
        + tuple(
            Source(f"host, {name} = {entry['ns']:g} ns", entry["source"])
            for name, entry in _document()["launches"].items()
        )
        + (_hosts_source(host_interval()), _first_seen_source())
    )


def _of_prompts(entry: Mapping[str, Any]) -> str:
    return f" of prompts of up to {entry['captured_tokens']} tokens" if entry.get("whole_decodes") else ""


def _first_seen_source() -> Source:
    """How much wider intervals are for sources that nobody has seen, with where that comes from."""
    quicker, slower = _first_seen()
    ends = f"{quicker:g} times as wide in logarithms at the lower end, {slower:g} at the upper one"
    return Source(f"intervals of engines are {ends}", _document()["first_seen"]["source"])


def _hosts_source(hosts: HostInterval) -> Source:
    """How hosts differ, with where that comes from."""
    return Source(
        f"hosts of steps that they set take {hosts.low:g} to {hosts.high:g} times as long as predicted, "
        f"in containers with few processors {hosts.contained_low:g} to {hosts.contained_high:g} times",
        _document()["hosts"]["source"],
    )
