"""What an engine lets run at once on a layout: sequences by its caches and its scheduler, and tokens of a step."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Text
from memplan.deployment.cases import Case
from memplan.deployment.service_goal import even_workload
from memplan.deployment.service_settings import ServiceSetting, instance_room, sequences_held
from memplan.hardware import Chip
from memplan.kv import Engine, engines
from memplan.kv import engine as find_engine
from memplan.kv.budget_parts import card_items
from memplan.kv.token_pools import attention_ranks, start_up


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """
    What `engine` lets a replica run at once: `cached` sequences half way through their answers fill its caches, and it
    schedules no more than `scheduled`; a step reads `step_tokens` of prompts. `refused` says why it would not start.
    """

    engine: str
    cached: float
    scheduled: float
    step_tokens: int
    refused: Text = ""

    @property
    def sequences(self) -> int | None:
        """Sequences of a replica at once; `None` where the engine would not start, so that nothing limits them."""
        return None if self.refused else max(1, int(self.scheduled))


def planner_of(server: str, chip: Chip) -> Engine | None:
    """
    The engine whose memory is planned where steps are those of `server`: the release that its name begins with, else
    the usual one; `None` where none is known.
    """
    names = {name for item in engines() for name in (item.name, f"{item.engine}-{item.version}", item.engine)}
    begins = sorted((name for name in names if f"{server}-".startswith(f"{name}-")), key=len)
    return find_engine(begins[-1], chip) if begins else None


def load_limits(case: Case, prompt: int, answer: int, *, step_tokens: int | None = None) -> LoadLimits:
    """
    What the engine of `case` lets a replica of its layout run of requests of `prompt` and `answer` tokens.

    Engines that reserve memory by how much of a prompt they read at once are told `step_tokens` beside that.
    """
    reserved, caches = _step_tokens(case), case.options.caches
    setting = ServiceSetting(case.layout, caches.speculative_tokens, caches.kv, "bf16", reserved)
    room = instance_room(case, setting, even_workload(1.0, prompt, answer))
    return LoadLimits(
        case.engine.name, room.sequences, sequences_held(case, room), step_tokens or reserved, room.refused
    )


def _step_tokens(case: Case) -> int:
    """Tokens of prompts that a replica reads in a step: those of an engine with token pools are shared by replicas."""
    rules, asked = case.engine.token_pools, case.options.batched_tokens
    if rules is None or asked is not None:
        return asked or case.started().options.batched_tokens or case.engine.batched_tokens
    card, driver = card_items(case.chip, case.memory)
    most = start_up(rules, (card.nbytes or 0) - (driver.nbytes or 0)).prefill_tokens
    return max(1, most // attention_ranks(case.layout))
