"""
How steps that read prompts and steps that make tokens follow each other where so many requests are always under way.

Whoever is answered sends the next request. An engine that mixes (vLLM's scheduler since 2025) fills each step with the
tokens of sequences under way and then with waiting prompts, up to as many tokens as a step may have, so that who is
answered gets a token of each step: answers of one length that begin in the same step end in the same, and their
successors are read together again. One that reads first makes no token while a prompt waits: all such answers end
together, and all prompts are read before any of the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, isinf, log

from memplan.core.bisection import crossing

_FINE = 1e-9
_EXCEEDED = 0.5615
"""How many of many draws exceed the mean of the largest: e to minus Euler's constant."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """
    Requests of a replica: `prompts` of those at once (others' among them that it waits for), of which `group` are read
    together in `chunks` steps, on average; `waves` of them in all. An answer takes `steps` steps after the one that
    reads its prompt's end. Unless they come `apart`, all answers begin when all prompts are read.

    Milliseconds: of a step that makes tokens (`step`), of one that reads beside nobody (`read`), and of one that does
    both (`mixed`; of an engine that reads first, both one after the other).
    """

    prompts: float
    group: int
    chunks: float
    waves: float
    steps: float
    step: float
    read: float
    mixed: float
    apart: bool = True

    @property
    def readings(self) -> float:
        """Steps that read all prompts once."""
        return max(1.0, self.prompts / self.group) * self.chunks

    def unread(self) -> ClosedLoop:
        """The same steps if reading took nothing."""
        return replace(self, read=0.0, mixed=self.step)

    def among(self) -> float:
        """
        Milliseconds by which others' prompts lengthen an answer.

        Requests that come when others are done have all other groups read in the course of their answers. Of those that
        come all at once half are, on average, and the rest before their first tokens.
        """
        others = max(0.0, self.prompts / self.group - 1) * self.chunks
        part = 1 - 0.5 / self.waves if self.apart else 0.5
        return part * others * max(0.0, self.mixed - self.step)

    def wave(self) -> float:
        """Milliseconds from wave to wave: answers of all but the last go on while the next one's prompts are read."""
        shared = min(self.readings, self.steps) * (1 - 1 / self.waves)
        return self.readings * self.read + self.steps * self.step - shared * (self.read + self.step - self.mixed)

    def burst(self, *, mixes: bool) -> float:
        """
        Milliseconds to the first token on average of prompts that all come at once to an engine with nothing to do.

        Group after group is read; of one that `mixes` those before make tokens beside, more from step to step.
        """
        groups = max(1.0, self.prompts / self.group)
        beside = (groups**2 - 1) / (6 * groups) * (self.mixed - self.read) if mixes else 0.0
        return self.chunks * ((groups + 1) / 2 * self.read + beside)

    def coming(self) -> float:
        """Prompts that a step which reads any has, where answers of unequal lengths end one by one."""
        return self.prompts / self.steps / self._ends

    @property
    def _ends(self) -> float:
        """The part of the steps after which somebody comes."""
        return 1 - exp(-self.prompts / self.steps)

    def drained_wave(self, single: float) -> float:
        """Milliseconds from wave to wave of answers of unequal lengths: all of them `drained`, or without end."""
        if isinf(self.waves):
            return self.steps * (self.step + self._ends * (self.mixed - self.step))
        return self.drained(single) / self.waves

    def drained(self, single: float) -> float:
        """
        Milliseconds until all waves of answers of unequal lengths are done, where a step with one sequence takes
        `single` and `mixed` is one that reads as many prompts as are `coming`.

        Lengths follow Erlang's law of two with a mean of `steps`: its 90 % quantile is 2.3 times the median, that of
        ShareGPT's answers 2.0 times (834 and 415 tokens, Sarathi-Serve), of exponential ones 3.3. While requests wait
        all places are taken; then fewer and fewer are under way until the longest answer is done.
        """
        full = (self.waves - 1) * self.steps
        return (
            self.readings * self.read
            + full * (self.step + self._ends * (self.mixed - self.step))
            + longest(self.prompts) * self.steps * single
            + (self.step - single) * self.steps
        )


def longest(answers: float) -> float:
    """How long the longest of so many answers is, by Erlang's law of two with a mean of 1."""

    def seldom(length: float) -> bool:
        return answers * (1 + 2 * length) * exp(-2 * length) <= _EXCEEDED

    return crossing(seldom, 0.0, log(answers) + 3, within=_FINE)
