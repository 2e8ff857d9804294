"""Requests at once, or so many a second, of a layout that is given, as asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.core.errors import InputError
from memplan.core.options import given_option, option
from memplan.requests.kv_request import step_sequences_option, utilization_option

if TYPE_CHECKING:
    from memplan.deployment.answered_load import LoadAsk
    from memplan.deployment.load_limits import LoadLimits
    from memplan.engines import StepMode
    from memplan.hardware import Chip
    from memplan.models import ModelConfig
    from memplan.models.parallel import Layout
    from memplan.models.steps import ServedStep

_PANEL = "Requests at once"


def input_length_option(panel: str) -> Any:
    """Tokens of a prompt, of every question about requests."""
    names = ("--input-length", "--input-len", "--random-input-len")
    return option(*names, default=3500, about="Tokens of a prompt.", panel=panel, least=1)


def output_length_option(panel: str) -> Any:
    """Tokens of an answer, of every question about requests."""
    names = ("--output-length", "--output-len", "--random-output-len")
    return option(*names, default=1000, about="Tokens of an answer.", panel=panel, least=1)


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """
    So many requests at once or a second, by the words of serving benchmarks too, and what the engine runs of them.

    `given` names the fields that were said rather than left as by default.
    """

    concurrency: int | None = option(
        "--concurrency",
        "--max-concurrency",
        default=None,
        about="Requests at once: asks for times and rates of a service of the layout.",
        panel=_PANEL,
        least=1,
    )
    rate: str | None = option(
        "--rate",
        "--request-rate",
        default=None,
        about="Requests a second, or inf for all at once; no more at once than --concurrency, if given.",
        panel=_PANEL,
    )
    num_prompts: int | None = option(
        "--num-prompts",
        default=None,
        about="Requests in all; by default twice as many as are at once, of a rate without end.",
        panel=_PANEL,
        least=1,
    )
    input_length: int = input_length_option(_PANEL)
    output_length: int = output_length_option(_PANEL)
    unequal_lengths: bool = option(
        "--unequal-lengths",
        default=False,
        about="Answers have lengths as conversations do (ShareGPT), --output-length on average.",
        panel=_PANEL,
    )
    offline: bool = option(
        "--offline", default=False, about="A program asks the engine itself, without a server.", panel=_PANEL
    )
    read_tokens: int | None = option(
        "--max-num-batched-tokens",
        "--max-prefill-tokens",
        default=None,
        about="Most tokens of a step of a replica; by default the engine's on the chip.",
        panel=_PANEL,
        least=1,
    )
    step_sequences: int | None = step_sequences_option()
    utilization: float | None = utilization_option()
    draft_model: str | None = option(
        "--draft-model",
        default=None,
        about="The config.json of a model that drafts the tokens of --mtp, or its folder.",
        panel=_PANEL,
    )
    draft_method: str = option(
        "--draft-method", default="eagle3", about="How it drafts: eagle3, eagle or draft_model.", panel=_PANEL
    )
    given: frozenset[str] = frozenset()

    @property
    def asked(self) -> bool:
        """
        Whether requests are asked about at all.

        Raises `InputError` where something is said of them, but not how many there are.
        """
        if any(item is not None for item in (self.concurrency, self.rate, self.num_prompts)):
            return True
        idle = given_option(LoadRequest, self.given)
        if idle is not None:
            raise InputError(
                "{} is of requests at once", idle, remedy="give --concurrency 32, or --rate 4, or leave it out"
            )
        return False

    def load(self) -> LoadAsk:
        """What is asked; raises `InputError` for what is no rate, and where nobody says how many requests there are."""
        from memplan.deployment.answered_load import LoadAsk

        return LoadAsk(
            self.input_length, self.output_length, self.concurrency, self._rate(), self.num_prompts,
            unequal=self.unequal_lengths, offline=self.offline,
        )  # fmt: skip

    def _rate(self) -> float | None:
        if self.rate is None:
            return None
        try:
            rate = float(self.rate)
        except ValueError:
            rate = math.nan
        if not rate > 0:
            raise InputError("--rate {!r:.20} is no rate", self.rate, remedy="give requests a second, such as 4")
        return None if math.isinf(rate) else rate

    def drafting(self, model: ModelConfig) -> ModelConfig:
        """`model` with the one that drafts for it, if any is named."""
        from memplan.models import load_config
        from memplan.models.drafts import with_draft

        if self.draft_model is None:
            return model
        return with_draft(model, load_config(Path(self.draft_model)), self.draft_method)

    def limits(
        self, model: ModelConfig, layout: Layout, chip: Chip, step: ServedStep, mode: StepMode
    ) -> LoadLimits | None:
        """What the engine runs at once that runs steps so; `None` where no planner of it is known."""
        from memplan.deployment.cases import Case
        from memplan.deployment.load_limits import load_limits, planner_of
        from memplan.deployment.service_settings import cache_choices
        from memplan.engines import GRAPHS
        from memplan.kv import CacheOptions, Memory, ServingOptions

        planner = planner_of(mode, chip)
        if planner is None:
            return None
        caches = CacheOptions(
            index_c8=step.index_c8,
            speculative_tokens=step.speculative,
            draft_method=self.draft_method if model.draft is not None else "mtp",
            mtp=step.speculative > 0,
        )
        options = ServingOptions(
            length=self.input_length + self.output_length,
            caches=caches,
            batched_tokens=self.read_tokens if planner.token_pools is None else None,
            requests=self.step_sequences,
        )
        memory = Memory(
            precision=step.precision,
            utilization=self.utilization,
            sequences=self.step_sequences,
            eager=mode.graphs == GRAPHS[0],
        )
        case = Case(model, chip, planner, options, layout, memory, even_routing=step.even_routing)
        named = cache_choices(case).get(step.kv)
        return load_limits(case.with_cache(named), self.input_length, self.output_length, step_tokens=self.read_tokens)
