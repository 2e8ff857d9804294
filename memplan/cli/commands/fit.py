"""`memplan fit CONFIG`: which layout of so many dies serves or trains a model, or how few dies keep a goal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.core.options import given_option
from memplan.core.units import parse_size
from memplan.reports.report import Report
from memplan.requests.kv_request import ServingRequest
from memplan.requests.recipe_request import RecipeRequest
from memplan.requests.service_request import ServiceRequest

if TYPE_CHECKING:
    from memplan.core.progress import Progress
    from memplan.core.sentence import Text
    from memplan.deployment.cases import Case
    from memplan.deployment.layout_search import Candidate
    from memplan.hardware import Chip
    from memplan.kv import Engine
    from memplan.models import ModelConfig
    from memplan.models.parallel import Layout
    from memplan.models.steps import ServedStep
    from memplan.serving import StepTime

_LARGER_STEP = 8192
_OF_ALL_SERVED = frozenset({"even_routing", "host", "host_factor"})
"""Of the options of services those that layouts are timed with, too."""


@reporting
def command(
    asked: ServingRequest,
    recipe: RecipeRequest,
    service: ServiceRequest,
    npus: Annotated[
        int | None,
        typer.Option(
            "--npus", "-n", help="Dies to use, a 910C package is two; of a service the most, by default 384.", min=1
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="Fit a training step of sequences of the context.", rich_help_panel="Recipe"),
    ] = False,
    timed: Annotated[
        int,
        typer.Option(help="Also time a decode step of so many of the best layouts.", rich_help_panel="Serving", min=0),
    ] = 3,
) -> Report:
    """
    Search the parallel layouts of a number of dies, or with --ttft, --tpot and --rate the fewest dies for a service.

    Exits with 0 when one fits, 1 when none does, 2 when the input can't be used.
    """
    _check_use(asked, recipe, service, train)
    if service.asked and not train:
        with progress_bar() as progress:
            return _service(asked, service, npus, progress)
    if npus is None:
        raise InputError("no number of dies is given", remedy="give --npus 16, or --ttft, --tpot and --rate")
    with progress_bar() as progress:
        if train:
            return _training(asked, recipe, npus, progress)
        return _serving(asked, service, npus, timed, progress)


def _check_use(asked: ServingRequest, recipe: RecipeRequest, service: ServiceRequest, train: bool) -> None:
    """Raise `InputError` for an option that would change nothing: of services, of training where that isn't asked."""
    if asked.fits_length and (train or service.asked):
        raise InputError("--fit-context is of layouts to serve with", remedy="leave it out")
    idle = service.given if train else frozenset() if service.asked else service.given - _OF_ALL_SERVED
    option = given_option(ServiceRequest, idle)
    if option is not None and train:
        raise InputError("{} means nothing with {}", option, "--train", remedy="leave it out")
    if option is not None:
        raise InputError("{} is of a service", option, remedy="give --ttft, --tpot and --rate, or leave it out")
    option = None if train else given_option(RecipeRequest, recipe.given)
    if option is not None:
        raise InputError("{} is of training", option, remedy="give --train, or leave it out")


def _training(asked: ServingRequest, recipe: RecipeRequest, npus: int, progress: Progress) -> Report:
    """Which layouts of so many dies train the model."""
    from memplan.deployment.training_fit import fit_training
    from memplan.hardware import chip as find_chip
    from memplan.models import load_config
    from memplan.reports.layouts_report import layouts_report

    die, model = find_chip(asked.chip), load_config(asked.config)
    length = asked.context or model.max_positions
    total = die.hbm_bytes if asked.hbm is None else parse_size(asked.hbm)
    if total is None:
        raise InputError(f"the memory of {die.name} is not known", remedy="give it with --hbm")
    recipe.check_parts(model)
    room = total - (die.hbm_reserved_bytes or 0)
    result = fit_training(model, room, recipe.recipe(length), npus, recipe.samples(npus), progress)
    return layouts_report(result, {}, _title(model, npus, die, length), length, training=True)


def _serving(asked: ServingRequest, service: ServiceRequest, npus: int, timed: int, progress: Progress) -> Report:
    """Which layouts of so many dies serve the model, or else what would."""
    from memplan.deployment.serving_fit import fit_serving
    from memplan.deployment.ways_to_serve import ways_to_serve
    from memplan.kv.served_weights import served_weights
    from memplan.models.steps import Phase, ServedStep
    from memplan.reports.layouts_report import layouts_report
    from memplan.serving.constants import hidden_host_notes
    from memplan.serving.steptime import routing_notes

    case = _case(asked, service)
    model, die, engine, options, memory = case.model, case.chip, case.engine, case.options, case.memory
    host = _host(engine, service)
    result, ways = fit_serving(model, die, engine, options, npus, memory, progress), None
    if result.best is None and result.nearest is not None:
        ways = ways_to_serve(replace(case, layout=result.nearest.layout), 2 * npus, progress)
    served = served_weights(model, die, asked.weights)
    step = ServedStep(Phase.DECODE, 1, options.length, precision=served.precision, even_routing=case.even_routing)
    times = _decode_times(model, die, result.fitting[:timed], step, host, service.host_factor, progress)
    notes: list[Text] = [] if served.note is None else [served.note]
    notes.extend(hidden_host_notes(host, "--host") if times else ())
    said = (note for layout in times for note in routing_notes(model, layout, even=case.even_routing))
    notes.extend(dict.fromkeys(said))
    title = _title(model, npus, die, options.length)
    return layouts_report(result, times, title, options.length, training=False, ways=ways, notes=tuple(notes))


def _title(model: ModelConfig, npus: int, die: Chip, length: int) -> str:
    return f"{model.name} on {npus} x {die.name}, {length:,} tokens"


def _case(asked: ServingRequest, service: ServiceRequest) -> Case:
    """What is to be served, on one rank."""
    from memplan.deployment.cases import Case
    from memplan.hardware import chip as find_chip
    from memplan.kv import Memory, ServingOptions
    from memplan.kv import engine as find_engine
    from memplan.kv.sequence_lengths import sequence_lengths
    from memplan.models import load_config
    from memplan.models.parallel import ONE_RANK

    die, model = find_chip(asked.chip), load_config(asked.config)
    size = None if asked.hbm is None else parse_size(asked.hbm)
    memory = Memory(precision=asked.weights, utilization=asked.utilization, hbm=size)
    engine = find_engine(asked.engine, die)
    options = ServingOptions(
        length=asked.context or sequence_lengths(model, engine.lengths).default,
        fits_length=asked.fits_length,
        batched_tokens=asked.batched_tokens,
    )
    return Case(model, die, engine, options, ONE_RANK, memory, even_routing=service.even_routing)


def _decode_times(
    model: ModelConfig,
    die: Chip,
    best: Sequence[Candidate],
    step: ServedStep,
    host: str,
    factor: float,
    progress: Progress,
) -> dict[Layout, StepTime]:
    """
    `step` with all sequences that fit in every layout of `best`, with the time of `host` and of one `factor` times as
    slow; those that can't be timed are left out.
    """
    from memplan.serving import step_time

    found = {}
    for number, item in enumerate(best):
        progress(number, len(best), "decode steps")
        context = step.context if item.budget is None else item.budget.context
        full = replace(step, batch=max(1, item.capacity), context=context)
        with suppress(InputError):
            found[item.layout] = step_time(model, item.layout, full, die, engine=host, host_factor=factor)
    return found


def _host(engine: Engine, service: ServiceRequest) -> str:
    """Whose host steps have; raises `InputError` for one that is not known, or that hides what is to take longer."""
    from memplan.serving.constants import host_of
    from memplan.serving.host_factor import check_host_shows

    host = host_of(engine.name, service.host)
    if service.host_factor != 1:
        check_host_shows(host)
    return host


def _service(asked: ServingRequest, service: ServiceRequest, most: int | None, progress: Progress) -> Report:
    """The fewest dies for a service."""
    from memplan.deployment.layout_search import MOST_DIES
    from memplan.deployment.service_options import ServiceAsk
    from memplan.deployment.service_search import search_service
    from memplan.kv.served_weights import served_weights
    from memplan.reports.services.service_report import service_report
    from memplan.serving.constants import hidden_host_notes
    from memplan.serving.steptime import routing_notes

    case = _case(asked, service)
    model, die, engine, memory = case.model, case.chip, case.engine, case.memory
    host = _host(engine, service)
    if service.step_sequences is not None:
        memory = replace(memory, sequences=service.step_sequences)
    options = replace(case.options, requests=service.step_sequences, batched_tokens=None)
    case = replace(case, options=options, memory=memory, timed_by=host)
    load = service.workload(case.budget().prefix_granularity if service.prefix_cache else 1, progress)
    chunks = (asked.batched_tokens,) if asked.batched_tokens else tuple(sorted({engine.batched_tokens, _LARGER_STEP}))
    drafts = service.draft_counts(len(model.predictions))
    goal = service.goal()
    ask = ServiceAsk(case, goal, load, most or MOST_DIES, drafts, chunks, service.accepted, service.host_factor)
    found = search_service(ask, pareto=service.pareto, progress=progress)
    notes: list[Text] = []
    served = served_weights(model, die, asked.weights)
    if served.note is not None:
        notes.append(served.note)
    notes.extend(routing_notes(model, even=case.even_routing))
    notes.extend(hidden_host_notes(host, "--host"))
    return service_report(found, goal, load, f"{model.name} on {die.name}, {engine.name}", host, tuple(notes))
