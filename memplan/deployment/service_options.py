"""Services as asked for and as found: ways to serve, what was rejected, and a front of two objectives."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Sentence, Text
from memplan.deployment.cases import Case
from memplan.deployment.service_goal import ServiceGoal, Workload
from memplan.deployment.service_model import Service
from memplan.deployment.service_settings import InstanceRoom, ServiceSetting
from memplan.hardware import Link

MIXED, APART = "mixed", "apart"


@dataclass(frozen=True, slots=True)
class ServiceAsk:
    """
    What is searched for: at most `most` dies of the case's chip, draft tokens and most tokens of a step to try, how
    many drafts are accepted (`None` as public tables state), and how many times as long as public hosts the machine's
    takes.
    """

    case: Case
    goal: ServiceGoal
    load: Workload
    most: int
    drafts: tuple[int, ...] = (0,)
    chunks: tuple[int, ...] = (2048, 8192)
    acceptance: float | None = None
    host_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class ServicePool:
    """`instances` alike with a `setting`; what is at once on a rank, what it holds, and the blocks that hold most."""

    setting: ServiceSetting
    instances: int
    service: Service
    room: InstanceRoom
    block: int | None = None

    @property
    def dies(self) -> int:
        """Dies of all instances."""
        return self.instances * self.setting.layout.ranks


@dataclass(frozen=True, slots=True)
class ServiceOption:
    """
    A way to serve the workload: one pool that reads and decodes, or a pool for each.

    Times are in nanoseconds as predicted, with what lies between the bounds of the step model. `sure` are the dies with
    which the goal is met at the upper bound too, `None` where no number is known that does.
    """

    mode: str
    pools: tuple[ServicePool, ...]
    dies: int
    sure: int | None
    ttft_ns: float
    tpot_ns: float
    ttft_bounds: tuple[float, float]
    tpot_bounds: tuple[float, float]
    tokens_per_second_per_die: float

    @property
    def verdict(self) -> Sentence:
        """Whether the goal is met whatever the step model's error, or only as predicted."""
        return Sentence("meets") if self.sure == self.dies else Sentence("meets within uncertainty")


@dataclass(frozen=True, slots=True)
class ServiceRejection:
    """A set-up that is out, and why; `room` is set where more room for caches would help."""

    mode: str
    setting: ServiceSetting
    why: Text
    room: bool = False


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """Tokens per second of a die against nanoseconds a token of one set-up with so many sequences on each rank."""

    mode: str
    setting: ServiceSetting
    sequences: int
    tokens_per_second_per_die: float
    tpot_ns: float


@dataclass(frozen=True, slots=True)
class ServiceSearch:
    """The ways found, fewest dies first, what was rejected, how caches are sent between pools, and the front."""

    options: tuple[ServiceOption, ...]
    rejected: tuple[ServiceRejection, ...]
    interval: tuple[float, float]
    sent_over: Link | None
    front: tuple[ParetoPoint, ...]

    @property
    def best(self) -> ServiceOption | None:
        """The way with the fewest dies."""
        return self.options[0] if self.options else None
