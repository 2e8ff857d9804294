"""
Waiting in a queue of several servers, from the first two moments.

Erlang's C formula gives the chance of waiting with exponential service, Allen and Cunneen's approximation scales the
mean wait by the variability of arrivals and service (A. O. Allen, *Probability, Statistics and Queueing Theory*, 2nd
edition 1990; with one server and Poisson arrivals it is the exact formula of Pollaczek and Khinchine). The tail of the
wait is taken to be exponential, which heavy traffic makes it (J. F. C. Kingman, 1962).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    """
    `servers` that share one queue; requests arrive `rate` a second, at random, and take `mean` seconds each.

    `variability` is the squared coefficient of variation of the service (0: all alike).
    """

    servers: int
    rate: float
    mean: float
    variability: float = 0.0

    @property
    def busy(self) -> float:
        """The part of its time that a server works; from 1 on the queue grows for ever."""
        return self.rate * self.mean / self.servers

    @property
    def waits(self) -> float:
        """The chance that a request finds all servers at work (Erlang C)."""
        load = self.rate * self.mean
        if self.busy >= 1:
            return 1.0
        blocked = 1.0
        for number in range(1, self.servers + 1):
            blocked = load * blocked / (number + load * blocked)
        return blocked / (1 - self.busy * (1 - blocked))

    @property
    def mean_wait(self) -> float:
        """Seconds that a request waits on average; infinite where the queue grows for ever."""
        if self.busy >= 1:
            return math.inf
        return self.waits * self.mean / (self.servers * (1 - self.busy)) * (1 + self.variability) / 2

    def wait(self, part: float) -> float:
        """Seconds that `part` of the requests wait at most."""
        if self.busy >= 1:
            return math.inf
        chance = self.waits
        if chance <= 1 - part or not chance:
            return 0.0
        return self.mean_wait / chance * math.log(chance / (1 - part))
