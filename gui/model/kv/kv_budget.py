"""The what-if of a served model's KV cache: from a choice to the budget, the stack of HBM, and what both say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memplan.core.sentence import Sentence, Text, joined
from memplan.core.units import format_bytes
from memplan.deployment.cases import Case
from memplan.gui.model.amount_names import kind_text
from memplan.gui.model.kv.kv_pools import PoolPicture, pool_picture
from memplan.kv import BudgetItem, BudgetPart, KvBudget
from memplan.kv.stage_pools import load_of
from memplan.reports.kv.kv_report import cost_figures, fit_figures, layout_figures, pool_figures
from memplan.reports.report import Figure, cell_text
from memplan.requests.kv_request import KvRequest

_SMALL_SHARE = 0.004
"""Weights of a group smaller than this part of the card stand together with other small ones."""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A label, its value, and a remark on it."""

    label: Text
    value: Text
    remark: Text = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One part of the HBM stack, bottom to top: name, bytes (0 where not known), size as text, more of what it is, where
    the figure is from, and its `role`, which colours it.
    """

    name: Text
    nbytes: int
    text: Text
    detail: Text = ""
    source: Text = ""
    role: str = "other"
    known: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """The budget of a choice, and its pool with the sequences wanted in it."""

    choice: KvRequest
    case: Case
    result: KvBudget
    pool: PoolPicture

    @property
    def enough(self) -> bool:
        """Whether the engine starts and all sequences wanted fit at once."""
        return self.result.fits and self.result.sequences >= self.pool.batch


def answer(choice: KvRequest) -> Answer:
    """What follows from a choice; raises `InputError` in the command line's words."""
    case = choice.case()
    result = case.budget()
    load = load_of(case.model, case.engine, case.options, case.layout)
    return Answer(choice, case, result, pool_picture(result, load, choice.batch or 1, paged=case.engine.paged))


_ROLES = {
    BudgetPart.DRIVER: "reserved",
    BudgetPart.OUTSIDE: "reserved",
    BudgetPart.ACTIVATIONS: "activation",
    BudgetPart.COLLECTIVES: "communication",
    BudgetPart.GRAPHS: "workspace",
    BudgetPart.WORKSPACE: "workspace",
    BudgetPart.STATES: "kv",
}


def stack(found: Answer) -> list[Segment]:
    """
    HBM as parts that add up to the card, top to bottom: what is not the cache's, the weights by group, then the
    cache by whose blocks they are, free blocks last. What does not fit the card makes them add up to more.
    """
    items = found.result.items
    card = items[0].nbytes or 0
    segments = []
    weights = [item for item in items if item.part is BudgetPart.WEIGHTS]
    for item in items[1:]:
        if item in weights:
            segments += _weights(weights, card) if item is weights[0] else []
        elif item.part is BudgetPart.CACHE:
            segments += _cache(found, item)
        else:
            text: Text = Sentence("unknown") if item.nbytes is None else format_bytes(item.nbytes)
            role = _ROLES.get(item.part, "other")
            known = item.nbytes is not None
            segments.append(Segment(Sentence(item.name), item.nbytes or 0, text, "", item.source, role, known))
    return segments


def _weights(items: Sequence[BudgetItem], card: int) -> list[Segment]:
    sized: list[tuple[Text, int]] = [(kind_text(item.group), item.nbytes or 0) for item in items]
    large = [(name, size) for name, size in sized if size >= card * _SMALL_SHARE]
    small = [(name, size) for name, size in sized if size < card * _SMALL_SHARE]
    if len(small) > 1:
        large.append((joined((name for name, _ in small), "{} + {}"), sum(size for _, size in small)))
    else:
        large += small
    large.sort(key=lambda pair: -pair[1])
    source = items[0].source
    return [Segment(Sentence("weights"), size, format_bytes(size), name, source, "weight") for name, size in large]


def _cache(found: Answer, item: BudgetItem) -> list[Segment]:
    """The cache: blocks of the sequences wanted as far as they fit, free blocks, and what is no whole block."""
    pool, room = found.pool, item.nbytes or 0
    per_block = found.result.pool.allocated_per_block
    held = min(pool.null_blocks + min(pool.batch, pool.fit) * pool.blocks_per_sequence, pool.blocks)
    taken, whole = held * per_block, pool.blocks * per_block
    count = min(pool.batch, pool.fit)
    segments = [
        Segment(
            Sentence("KV cache"), taken, format_bytes(taken), f"{count:,} × {found.result.context:,}", item.source, "kv"
        )
    ]
    if whole > taken:
        segments.append(
            Segment(Sentence("free blocks"), whole - taken, format_bytes(whole - taken), "", item.source, "free")
        )
    if room > whole:
        rest = room - whole
        segments.append(
            Segment(
                Sentence("in no block"), rest, format_bytes(rest), "", Sentence("what whole blocks leave"), "reserved"
            )
        )
    return segments


def budget_headline(found: Answer) -> Sentence:
    """The answer in one sentence."""
    result, batch = found.result, found.pool.batch
    context = f"{result.context:,}"
    if result.refusal is not None:
        return Sentence("Does not fit: {} missing for the engine to start", (format_bytes(result.missing_bytes),))
    if not result.fits:
        text = "Does not fit: {} missing for one sequence of {} tokens"
        return Sentence(text, (format_bytes(result.missing_bytes), context))
    text = "Fits: {} × {} tokens wanted, room for {}"
    if result.sequences < batch:
        text = "Does not fit: {} × {} tokens wanted, room for {}"
    return Sentence(text, (f"{batch:,}", context, f"{result.sequences:,}"))


def answers(found: Answer) -> list[BudgetLine]:
    """What the budget says, with what each figure rests on: what the command line says, and the pool's picture."""
    result, picture, sequence = found.result, found.pool, found.pool.sequence
    lines = _lines(fit_figures(result))
    if picture.missing:
        wanted = Sentence("{} wanted, {} are there", (f"{picture.needed:,}", f"{picture.blocks:,}"))
        lines.append(BudgetLine(Sentence("blocks too few"), f"{picture.missing:,}", wanted))
    lines += _lines(cost_figures(result))
    if picture.shares:
        kinds = (
            ("unfilled", sequence.unfilled, "room in pages for tokens that are not there"),
            ("padding", sequence.padding, "to make pages equal"),
            ("no cache", sequence.absent, "groups with fewer caches than the largest"),
            ("kept again", result.waste_bytes - sequence.waste, "content that other ranks or layers hold too"),
        )
        lines += [
            BudgetLine(Sentence(name), format_bytes(size), Sentence(why)) for name, size, why in kinds if size > 0
        ]
        lines += _lines(pool_figures(result))
    return [*lines, *_lines(layout_figures(result))]


def _lines(figures: Sequence[Figure]) -> list[BudgetLine]:
    return [BudgetLine(item.label, cell_text(item.value, item.quantity, item.digits), item.remark) for item in figures]


def warnings(found: Answer) -> list[Sentence]:
    """What does not stop the engine but is likely not meant."""
    model, context, most = found.case.model, found.result.context, found.case.started().memory.step_sequences
    said = []
    if context > model.max_positions:
        said.append(
            Sentence(
                "{} [token is|tokens are] more than the model's own {}", (f"{context:,}", f"{model.max_positions:,}")
            )
        )
    if found.pool.batch > most:
        said.append(
            Sentence(
                "{} [sequence is|sequences are] more than the {} of one step: the others wait",
                (f"{found.pool.batch:,}", f"{most:,}"),
            )
        )
    return said
