"""A plan as asked for: of a graph, or of one step of a published model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.core.errors import InputError
from memplan.core.options import argument, given_option, option, options_of
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.core.units import parse_bytes, parse_rate
from memplan.engines import DEFAULT_ENGINE
from memplan.hardware import Chip, HostTier, LinkRates, host_tier
from memplan.hardware import chip as find_chip
from memplan.hardware.dmi_bandwidth import read_dmi_rates
from memplan.hardware.host import pooled_tier
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.requests.engine_request import EngineRequest
from memplan.requests.layout_request import LayoutRequest
from memplan.requests.recipe_request import RecipeRequest
from memplan.requests.step_request import StepRequest

if TYPE_CHECKING:
    from memplan.models.parallel import Layout
    from memplan.models.steps import ServedStep
    from memplan.models.training.step_recipe import Recipe
    from memplan.schema import Plan
    from memplan.traces.directory import Profile

_PANEL = "Model"
TRAIN_PHASE = "train"
_PLENTY = 2**60
MODEL_PHASES = (TRAIN_PHASE, "prefill", "decode")
_SHARED = frozenset({"phase", "context", "sequence_parallel"})
"""What a training step and a served one are both asked with."""


@dataclass(frozen=True, kw_only=True)
class ModelStepRequest(LayoutRequest, RecipeRequest, StepRequest):
    """One step of a model on one rank of a layout: training, prefill or decode."""

    phase: str = option("--phase", default="", about="Of a model: the step, train, prefill or decode.", panel=_PANEL)
    stage: int = option("--stage", default=0, about="The pipeline stage.", panel=_PANEL, least=0)
    data_rank: int = option("--data-rank", default=0, about="Which replica of its stage.", panel=_PANEL, least=0)

    @property
    def ranks(self) -> Layout:
        """The layout, with experts split as the recipe has it."""
        return self.with_experts(self.layout)

    def model_step(self) -> Recipe | ServedStep:
        """How the step is trained or served; raises `InputError` for options that go with another kind of step."""
        if self.phase not in MODEL_PHASES:
            what = Sentence("the step of a model is not given")
            if self.phase:
                what = Sentence("--phase {!r:.20} is not known", (self.phase,))
            raise InputError(
                what,
                remedy=Sentence(
                    "give --phase {} or {}",
                    (", ".join(MODEL_PHASES[:-1]), MODEL_PHASES[-1]),
                ),
            )
        return self.training_recipe() if self.phase == TRAIN_PHASE else self.served_step()

    def training_recipe(self) -> Recipe:
        """How the step is trained; raises `InputError` for options of steps that serve."""
        self.refuse(StepRequest, f"--phase {self.phase}")
        return self.recipe(self.context, self.micro_batches_of(self.dp))

    def served_step(self) -> ServedStep:
        """How the step is served; raises `InputError` for options of training."""
        self.refuse(RecipeRequest, f"--phase {self.phase}")
        return self.step(self.dp)

    def refuse(self, kind: type[Any], where: str) -> None:
        """Raise `InputError` if an option of `kind` alone was given, which `where` has no use for."""
        shared = _SHARED if kind is not ModelStepRequest else frozenset()
        idle = given_option(kind, self.given - shared)
        if idle is not None:
            raise InputError("{} means nothing with {}", idle, Sentence(where), remedy="leave it out")


@dataclass(frozen=True, kw_only=True)
class TimedStepRequest(ModelStepRequest):
    """One step of a model whose time is asked: of serving, where nothing else is said."""

    phase: str = option("--phase", default="decode", about="decode, prefill or train.", panel=_PANEL)


@dataclass(frozen=True)
class PlanRequest(ModelStepRequest, EngineRequest):
    """What to plan on which chip; the options of a model's step are for models alone."""

    source: Path = field(metadata=argument("A compiled graph such as model.mindir, or a model's config.json."))
    chip: str = option("--chip", "-c", default="910B3", about="The chip, such as 910B3 or 910C.")
    hbm: str | None = option(
        "--hbm", default=None, about="HBM to plan with, such as 20GiB; by default what the chip's driver leaves."
    )
    host: str | None = option(
        "--host", default=None, about="Host memory that tensors may move to, such as 512GiB; by default no limit."
    )
    remote: str | None = option(
        "--remote",
        default=None,
        about="Pooled memory of other hosts to move to, such as 2TiB: instead of the host's, or beside that of --host.",
    )
    remote_rate: str | None = option(
        "--remote-rate", default=None, about="Rate to and from pooled memory, such as 100GB/s; by default the chip's."
    )
    d2h: str | None = option(
        "--d2h", default=None, about="Rate from HBM to the host, such as 20GB/s; by default the chip's."
    )
    h2d: str | None = option(
        "--h2d", default=None, about="Rate from the host to HBM, such as 55GB/s; by default the chip's."
    )
    link_rates: str | None = option(
        "--link-rates", default=None, about="A file with what ascend-dmi --bw printed: the rates of the host link."
    )
    rates_from: str | None = option(
        "--rates-from",
        default=None,
        about="A profile whose copies between host and HBM tell the rates of the host link.",
    )
    recompute: str = option(
        "--recompute",
        default="auto",
        about="Whether ops may run twice where that is faster than moving what they make: auto or never.",
    )
    like: str | None = option(
        "--like",
        default=None,
        about="A profile: layout, recipe, stage and chip are read from it, where no option gives them.",
        panel=_PANEL,
    )
    rank: int | None = option(
        "--rank", default=None, about="The rank of that profile; by default the first with kernels.", panel=_PANEL
    )

    @property
    def policy(self) -> RecomputePolicy:
        """Whether ops may run twice; raises `InputError` for another word than `auto` and `never`."""
        try:
            return RecomputePolicy(self.recompute)
        except ValueError:
            known = " or ".join(policy.value for policy in RecomputePolicy)
            raise InputError(
                "--recompute {!r:.20} is not known", self.recompute, remedy=Sentence("give {}", (known,))
            ) from None

    def host_tier(self, chip: Chip) -> HostTier:
        """The host memory and link of `chip` as asked for; raises `InputError` for what can't be one."""
        if self.remote is not None:
            pool = self._pooled_tier(chip)
            return pool if self.host is None else replace(self._own_tier(chip), beside=pool)
        if self.remote_rate is not None:
            raise InputError("--remote-rate is of pooled memory, and none is given", remedy="give --remote")
        return self._own_tier(chip)

    def _own_tier(self, chip: Chip) -> HostTier:
        rates = self._measured_rates()
        if self.d2h is not None:
            rates = replace(rates, to_host=parse_rate(self.d2h))
        if self.h2d is not None:
            rates = replace(rates, to_device=parse_rate(self.h2d))
        return host_tier(chip, capacity=None if self.host is None else parse_bytes(self.host), rates=rates)

    def _pooled_tier(self, chip: Chip) -> HostTier:
        of_host = ("d2h", "h2d", "link_rates", "rates_from")
        other = next((name for name in of_host if getattr(self, name) is not None), None)
        if other is not None and self.host is None:
            raise InputError(
                "--{} is of the host's memory, and --remote without --host moves to pooled memory alone",
                other.replace("_", "-"),
                remedy="give --host as well",
            )
        rate = None if self.remote_rate is None else parse_rate(self.remote_rate)
        return pooled_tier(chip, capacity=parse_bytes(self.remote or ""), bytes_per_second=rate)

    def _measured_rates(self) -> LinkRates:
        """The rates that a file tells, none without one; raises `InputError` for two."""
        if self.rates_from is None:
            return LinkRates() if self.link_rates is None else read_dmi_rates(self.link_rates)
        if self.link_rates is not None:
            raise InputError("--link-rates and --rates-from both tell the link's rates", remedy="give one of them")
        from memplan.hardware.copy_rates import copy_rates
        from memplan.traces import open_profile
        from memplan.traces.host_copies import host_copies

        profile = open_profile(self.rates_from)
        copies = [copy for rank in profile.ranks for copy in host_copies(profile.rank(rank))]
        return copy_rates(copies, Path(self.rates_from).name)

    def twice_the_batch(self) -> PlanRequest:
        """The same step of a model with twice the samples at once, and with HBM enough for them."""
        if self.phase not in MODEL_PHASES:
            raise InputError("a larger batch is of the step of a model", remedy="give --phase, or leave it out")
        roomy = replace(self, hbm=str(_PLENTY), recompute=RecomputePolicy.NEVER.value)
        if self.phase != TRAIN_PHASE:
            return replace(roomy, batch=2 * (self.batch or self.dp))
        whole = None if self.global_batch is None else 2 * self.global_batch
        return replace(roomy, micro_batch=2 * self.micro_batch, global_batch=whole)

    def plan(
        self,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        layers: int | None = None,
        calibration: Path | None = None,
        quick: bool = False,
        progress: Progress = silent,
    ) -> Plan:
        """
        The plan of what is asked; what the source is, its content tells.

        `shapes` binds dynamic inputs of a graph, `layers` extends its equal layers to that many; with `quick` the first
        plan that fits is taken. Raises `InputError` for a source, or options, that can't be used.
        """
        from memplan.kv.served_weights import served_weights
        from memplan.models import load_config
        from memplan.models.steps import ServedStep
        from memplan.planner import plan
        from memplan.readers.sniff import ContentKind, sniff

        room = parse_bytes(self.hbm) if self.hbm is not None else None
        kind = sniff(self.source)
        if kind not in (ContentKind.MODEL_CONFIG, ContentKind.FOLDER):
            if kind.is_graph:
                self.refuse(ModelStepRequest, "a graph")
                self.refuse(EngineRequest, "a graph")
            return plan(
                self.source,
                chip=self.chip,
                hbm=room,
                shapes=shapes,
                layers=layers,
                calibration=calibration,
                recompute=self.policy,
                host=self.host_tier(find_chip(self.chip)),
                quick=quick,
                progress=progress,
            )
        if shapes:
            raise InputError("--shape means nothing with a model", remedy="give --sequence and --batch")
        if layers is not None:
            raise InputError("--layers is for graphs", remedy="change the number of layers in the model's config.json")
        if self.like is not None:
            from memplan.traces import open_profile

            return self.plan_like(open_profile(self.like), calibration=calibration, quick=quick, progress=progress)
        if self.rank is not None:
            raise InputError("--rank is of a profile, and none is given", remedy="give --like")
        model, step = load_config(self.source), self.model_step()
        self.check_parts(model)
        mode, notes = self._served_by(self.phase)
        if isinstance(step, ServedStep):
            served = served_weights(model, find_chip(self.chip), step.precision)
            step = replace(step, precision=served.precision)
            notes += () if served.note is None else (str(served.note),)
        made = plan(
            model,
            chip=self.chip,
            hbm=room,
            calibration=calibration,
            phase=self.phase,
            layout=self.ranks,
            recipe=step,
            stage=self.stage,
            data_rank=self.data_rank,
            engine=mode,
            recompute=self.policy,
            host=self.host_tier(find_chip(self.chip)),
            quick=quick,
            progress=progress,
        )
        return replace(made, notes=(*made.notes, *notes))

    def _served_by(self, phase: str) -> tuple[str, tuple[str, ...]]:
        """
        Whose host a step of `phase` has, and what to say of it; raises `InputError` for options of an engine with
        training, whose plans have no host's time.
        """
        if phase == TRAIN_PHASE:
            self.refuse(EngineRequest, f"--phase {phase}")
            return DEFAULT_ENGINE, ()
        mode = self.mode()
        return mode.name, tuple(map(str, mode.notes))

    def alternatives(self) -> Iterator[tuple[str, PlanRequest]]:
        """What else could be asked for where nothing fits, in words; of a model its layout and batch too."""
        if self.policy is RecomputePolicy.NEVER:
            yield "compute activations anew (--recompute auto)", replace(self, recompute=RecomputePolicy.AUTO.value)
        if self.host is not None:
            yield "host memory without limit (no --host)", replace(self, host=None)
        if self.phase and self.like is None:
            yield from self._other_steps()

    def possible(self) -> bool:
        """Whether there is a graph of what is asked: not every layout divides a model, nor is every step modelled."""
        from memplan.models import load_config
        from memplan.models.steps import model_graph

        if not self.phase:
            return True
        try:
            step = self.model_step()
            model_graph(
                load_config(self.source), self.phase, self.ranks, step, stage=self.stage, data_rank=self.data_rank
            )
        except InputError:
            return False
        return True

    def _other_steps(self) -> Iterator[tuple[str, PlanRequest]]:
        """The step of a model on more ranks, and less of it at once."""
        train = self.phase == TRAIN_PHASE
        if train and self.micro_batch > 1:
            half = self.micro_batch // 2
            yield f"micro-batch of {half} (--micro-batch {half})", replace(self, micro_batch=half)
        elif not train and self.batch is not None and self.batch >= 2 * self.dp:
            half = self.batch // 2
            yield f"batch of {half} (--batch {half})", replace(self, batch=half)
        if self.context > 1:
            half = self.context // 2
            yield f"sequences of {half:,} tokens (--context {half})", replace(self, context=half)
        yield f"tensor parallelism of {2 * self.tp} (--tp {2 * self.tp})", replace(self, tp=2 * self.tp)
        if train:
            yield f"pipeline of {2 * self.pp} stages (--pp {2 * self.pp})", replace(self, pp=2 * self.pp)
            if self.dp > 1 and self.sharding == "none":
                words = "states of the optimiser divided among replicas (--sharding distributed)"
                yield words, replace(self, sharding="distributed")
        elif self.weights in {"published", "bf16"}:
            yield "weights in 8 bits (--weights w8a8)", replace(self, weights="w8a8")

    def plan_like(
        self,
        profile: Profile,
        *,
        calibration: Path | None = None,
        quick: bool = False,
        progress: Progress = silent,
    ) -> Plan:
        """
        The plan of the step that rank `rank` of `profile` shows, with the options that were given.

        `Plan.settings` says what the others rest on. Raises `InputError` where one can't be found out, naming it.
        """
        from memplan.likeness import like_profile
        from memplan.models import load_config
        from memplan.planner import plan

        model = load_config(self.source)
        self.check_parts(model)
        options = {item.name for item, _ in options_of(ModelStepRequest)}
        given = {name: getattr(self, name) for name in self.given & (options | {"chip"})}
        found = like_profile(model, profile, self.rank, given=given, progress=progress)
        asked = replace(self, **{name: value for name, value in found.values.items() if name in options})
        mode, notes = self._served_by(asked.phase)
        result = plan(
            model,
            chip=found.chip,
            hbm=parse_bytes(self.hbm) if self.hbm is not None else None,
            calibration=calibration,
            phase=asked.phase,
            layout=asked.ranks,
            recipe=asked.model_step(),
            stage=asked.stage,
            data_rank=asked.data_rank,
            settings=found.settings,
            engine=mode,
            recompute=self.policy,
            host=self.host_tier(found.chip),
            quick=quick,
            progress=progress,
        )
        return replace(result, notes=(*found.contradictions, *result.notes, *notes))
