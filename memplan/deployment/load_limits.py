"""What an engine lets run at once on a layout: sequences by its caches and its scheduler, and tokens of a step."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Text
from memplan.deployment.cases import Case
from memplan.deployment.service_goal import even_workload
from memplan.deployment.service_settings import ServiceSetting, instance_room, sequences_held
from memplan.engines import StepMode, nearest_release
from memplan.hardware import Chip
from memplan.kv import Engine, engines
from memplan.kv import engine as find_engine
from memplan.kv.budget_parts import card_items
from memplan.kv.tokens import attention_ranks, start_up


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


def planner_of(mode: StepMode, chip: Chip) -> Engine | None:
    """
    The engine whose memory is planned on `chip` where steps are run as `mode` says: that of its release, else of the
    nearest one that is known for the chip, or the usual one where releases aren't told apart.

    `None` where none is known of the engine; raises `InputError` where none is for the chip.
    """
    planners = [item for item in engines() if item.engine == mode.family]
    if not planners:
        return None
    fitting = {item.version for item in planners if not item.families or chip.family in item.families}
    if not mode.release or not fitting:
        return find_engine(mode.family, chip)
    return find_engine(f"{mode.family}-{nearest_release(mode.release, fitting)}", chip)


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
