"""What a service has to reach as asked for: times, rate, lengths or a file of traffic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.core.options import option
from memplan.core.progress import Progress, silent
from memplan.core.units import parse_duration
from memplan.requests.kv_request import step_sequences_option
from memplan.requests.load_request import input_length_option, output_length_option
from memplan.requests.step_request import even_routing_option

if TYPE_CHECKING:
    from memplan.deployment.service_goal import ServiceGoal, Workload

_PANEL = "Service"


@dataclass(frozen=True, kw_only=True)
class ServiceRequest:
    """
    Goals of a service, its traffic, and what of its settings is tried.

    `given` names the fields that were said rather than left as by default.
    """

    ttft: str | None = option(
        "--ttft", default=None, about="Most time to the first token, such as 2s: ask for the fewest NPUs.", panel=_PANEL
    )
    tpot: str | None = option("--tpot", default=None, about="Most time for each further token: 50ms.", panel=_PANEL)
    rate: float | None = option("--rate", default=None, about="Requests a second.", panel=_PANEL)
    input_length: int = input_length_option(_PANEL)
    output_length: int = output_length_option(_PANEL)
    trace: str | None = option(
        "--trace",
        default=None,
        about="Traffic instead of lengths: JSON lines with timestamp, input_length, output_length, hash_ids.",
        panel=_PANEL,
    )
    trace_block: int = option(
        "--trace-block", default=512, about="Tokens of a block in the traffic.", panel=_PANEL, least=1
    )
    prefix_cache: int = option(
        "--prefix-cache",
        default=0,
        about="Tokens that a prefix cache holds in all, for the hits of the traffic.",
        panel=_PANEL,
        least=0,
    )
    percentile: float = option(
        "--percentile", default=90.0, about="Part of the requests, in percent, that has to be as fast.", panel=_PANEL
    )
    drafts: str | None = option(
        "--drafts", default=None, about="Draft tokens to try, such as 0,1,3; by default those.", panel=_PANEL
    )
    accepted: float | None = option(
        "--accepted",
        default=None,
        about="Draft tokens accepted on average; by default what tables state.",
        panel=_PANEL,
    )
    step_sequences: int | None = step_sequences_option()
    host: str | None = option(
        "--host",
        default=None,
        about="Whose host time steps have, by the names of memplan step --engine; by default the engine's.",
        panel=_PANEL,
    )
    host_factor: float = option(
        "--host-factor",
        default=1.0,
        about="How many times as long this machine's host takes (memplan step --measured-step says it).",
        panel=_PANEL,
        least=0,
    )
    even_routing: bool = even_routing_option(_PANEL)
    pareto: bool = option(
        "--pareto", default=False, about="Also show tokens/s a die against time a token.", panel=_PANEL
    )
    given: frozenset[str] = frozenset()

    @property
    def asked(self) -> bool:
        """Whether a service is asked about at all."""
        return self.pareto or any(item is not None for item in (self.ttft, self.tpot, self.rate, self.trace))

    def goal(self) -> ServiceGoal:
        """The times to keep; raises `InputError` for what is none."""
        from memplan.deployment.service_goal import ServiceGoal

        def time(text: str | None) -> int | None:
            return None if text is None else parse_duration(text)

        return ServiceGoal(time(self.ttft), time(self.tpot), self.percentile / 100)

    def workload(self, granularity: int, progress: Progress = silent) -> Workload:
        """
        The traffic; hits of a prefix cache are multiples of `granularity` tokens.

        Raises `InputError` for a file that can't be used, and where no rate is known.
        """
        from memplan.deployment.service_goal import even_workload, traffic_workload
        from memplan.traffic import CacheTier, prefix_hits, read_arrivals

        if self.trace is None:
            if self.rate is None and not self.pareto:
                raise InputError("no rate is given", remedy="give --rate 20 (requests a second), or --trace FILE.jsonl")
            return even_workload(1.0 if self.rate is None else self.rate, self.input_length, self.output_length)
        tiers = [CacheTier("cache", self.prefix_cache)] if self.prefix_cache else []
        found = prefix_hits(
            read_arrivals(Path(self.trace), self.trace_block),
            tiers,
            block=self.trace_block,
            granularity=granularity,
            progress=progress,
        )
        return traffic_workload(found, self.rate)

    def draft_counts(self, own: int) -> tuple[int, ...]:
        """Draft tokens to try for a model with `own` layers for them; raises `InputError` for what is no list."""
        if self.drafts is None:
            return (0, 1, 3) if own else (0,)
        try:
            found = tuple(sorted({int(item) for item in self.drafts.split(",")}))
        except ValueError:
            found = (-1,)
        if found[0] < 0:
            raise InputError(f"--drafts {self.drafts!r:.40} is no list of numbers", remedy="write it as 0,1,3")
        if found[-1] and not own:
            raise InputError("the model has no layers for drafts", remedy="leave --drafts out")
        return found
