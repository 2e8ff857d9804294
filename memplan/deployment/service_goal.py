"""What a service has to reach, and what is asked of it: rate, lengths, and the times that users wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.traffic import PrefixHits


@dataclass(frozen=True, slots=True)
class ServiceGoal:
    """
    The most a `part` of the requests may wait: nanoseconds to the first token and for each further one.

    `None` is no goal.
    """

    ttft_ns: int | None
    tpot_ns: int | None
    part: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.part < 1:
            raise InputError(f"a part of {self.part} of the requests is not between 0 and 1")
        for name, value in (("time to the first token", self.ttft_ns), ("time per token", self.tpot_ns)):
            if value is not None and value <= 0:
                raise InputError(f"a {name} of {value} ns can't be reached")


@dataclass(frozen=True, slots=True)
class Workload:
    """
    Requests as they come: `rate` a second, prompts of `prompt` tokens and answers of `answer` tokens on average.

    `computed` says how many of the requests have so many tokens of their prompts to compute, what a prefix cache holds
    not among them. `longest` is the longest sequence that has to fit.
    """

    rate: float
    prompt: float
    answer: float
    computed: Mapping[int, int]
    longest: int

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise InputError(
                f"a rate of {self.rate:g} requests/s asks for nothing", remedy="give one such as --rate 20"
            )
        if self.answer < 1:
            raise InputError("answers of less than a token", remedy="give --output-length")

    @property
    def cached(self) -> int:
        """Tokens of a prompt that a prefix cache holds, on average."""
        return max(0, round(self.prompt - self.mean(float)))

    def mean(self, of: Callable[[float], float]) -> float:
        """The mean over requests of `of` their computed tokens."""
        return sum(count * of(tokens) for tokens, count in self.computed.items()) / sum(self.computed.values())

    def computed_at(self, part: float) -> int:
        """The computed tokens that `part` of the requests have at most."""
        wanted, seen = part * sum(self.computed.values()), 0
        for tokens, count in sorted(self.computed.items()):
            seen += count
            if seen >= wanted:
                return tokens
        return max(self.computed)


def even_workload(rate: float, prompt: int, answer: int) -> Workload:
    """Requests that are all alike, none of whose prompts is cached."""
    if prompt < 1:
        raise InputError("prompts of less than a token", remedy="give --input-length")
    return Workload(rate, prompt, answer, {prompt: 1}, prompt + answer)


_PARTS = 32
"""Lengths of traffic are told apart in so many equal parts of the requests."""


def traffic_workload(found: PrefixHits, rate: float | None) -> Workload:
    """
    Requests as some traffic has them, at its own mean rate unless another is given.

    Each of 32 equal parts of the requests has the mean of its computed tokens. Raises `InputError` where no rate is
    known.
    """
    rate = found.rate if rate is None else rate
    if rate is None:
        raise InputError("all requests of the traffic arrive at once", remedy="give --rate")
    lengths = sorted(found.computed.items())
    parts: dict[int, int] = {}
    held, tokens = 0, 0.0
    size = max(1, -(-found.requests // _PARTS))
    for length, count in lengths:
        while count:
            taken = min(count, size - held)
            held, tokens, count = held + taken, tokens + taken * length, count - taken
            if held == size:
                parts[round(tokens / held)] = parts.get(round(tokens / held), 0) + held
                held, tokens = 0, 0.0
    if held:
        parts[round(tokens / held)] = parts.get(round(tokens / held), 0) + held
    answer = max(1.0, found.output_tokens / found.requests)
    return Workload(rate, found.input_tokens / found.requests, answer, parts, found.longest)
