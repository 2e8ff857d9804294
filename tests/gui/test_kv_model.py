"""The KV budget without a window: from a choice to pools and the stack of HBM, as the command line says it."""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from memplan.cli.app import command_app
from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.gui.i18n import catalogue
from memplan.gui.model.kv.kv_budget import answer, answers, budget_headline, stack, warnings
from memplan.gui.model.kv.kv_colours import cache_colour, stack_colours
from memplan.gui.model.kv.kv_further import fitting_text, further, further_lines
from memplan.gui.model.kv.kv_labels import spread
from memplan.gui.model.kv.kv_offer import (
    SAMPLE,
    batch_steps,
    chip_names,
    context_steps,
    doubled,
    engine_versions,
    offer,
)
from memplan.gui.model.kv.kv_sheet import budget_sheet
from memplan.gui.model.palette import load_palette, palette_names, theme_names
from memplan.hardware import chip
from memplan.kv import engine
from memplan.reports.kv.kv_report import budget_document
from memplan.requests.kv_request import KvRequest


def sample(config: Path, **options: Any) -> KvRequest:
    """A request of 32,768 tokens, as the window starts with."""
    return KvRequest(config, **{"context": 32768, **options})


EVERYTHING = KvRequest(
    SAMPLE, "910_9382", "vllm-ascend-0.23.0.post1-a3", tp=4, pp=2, dp=2, context=4096, batch=3, block_size=64,
    batched_tokens=4096, step_sequences=64, asynchronous=True, weights="w8a8", utilization=0.85, hbm="60GiB",
    activations="3GiB", graphs="1GiB", hccl_buffer_mb=300, host_memory="64GiB", pooled_memory="1TiB", effects=True,
)  # fmt: skip
CHOICES = {
    "sample": sample(SAMPLE),
    "everything": EVERYTHING,
    "logical": sample(SAMPLE, engine="logical", context=100_000, batch=64),
    "mindie": sample(SAMPLE, engine="mindie-atb"),
    "too small": sample(SAMPLE, hbm="24GiB", batch=2),
    "does not start": sample(SAMPLE, hbm="16GiB"),
    "contexts": sample(SAMPLE, engine="vllm", chip="910B3", tp=16, cp=2, context=5000),
}


def printed(command: str) -> tuple[int, dict[str, Any]]:
    """What the command line answers to `command`, as a document."""
    words = shlex.split(command)
    assert words[0] == "memplan"
    done = CliRunner().invoke(command_app(), [*words[1:], "--json"], standalone_mode=False)
    return done.return_value, json.loads(done.stdout)


def plain(document: dict[str, Any]) -> Any:
    """A document as JSON gives it back."""
    return json.loads(json.dumps(document))


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_command_prints_the_same_budget(choice: KvRequest) -> None:
    result = answer(choice).result
    code, document = printed(choice.command_line)
    assert code == (0 if result.fits else 1)
    more = further(choice)
    assert document.pop("longest_context", {}).get("tokens", more.longest) == more.longest
    assert {name: tier["tokens"] for name, tier in document.pop("tiers", {}).items()} == {
        name: tier.tokens for name, tier in more.tiers.items()
    }
    assert document.pop("recompute_ns", None) == more.recompute_ns
    assert [item["value"] for item in document.pop("effects", [])] == [effect.value for effect in more.effects]
    assert [(way["option"], way["value"]) for way in document.pop("fits_instead", [])] == [
        (way.option, way.value) for way in more.ways
    ]
    assert bool(more.ways) != result.fits
    of_times = list(map(str, more.notes))
    assert any(note.startswith("times have the host of ") for note in of_times) == bool(more.tiers)
    own = plain(budget_document(result))
    assert document == {**own, "notes": own["notes"] + of_times}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_stack_goes_from_the_card_to_free_blocks(choice: KvRequest) -> None:
    found = answer(choice)
    parts, card = stack(found), found.result.items[0].nbytes
    assert card is not None
    names = [str(part.name) for part in parts]
    assert names[0] == "driver"
    assert names.index("activations") > max(place for place, name in enumerate(names) if name == "weights")
    assert names.index("KV cache") > names.index("workspace")
    total = sum(part.nbytes for part in parts)
    assert total == card if found.result.available_bytes else total >= card
    cache = sum(part.nbytes for part in parts if part.role in ("kv", "free") or str(part.name) == "in no block")
    assert cache == found.result.available_bytes


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_pool_adds_up(choice: KvRequest) -> None:
    found = answer(choice)
    pool, result = found.pool, found.result
    assert pool.sequence.total == result.pool.blocks_per_request * result.pool.planned_per_block
    assert pool.sequence.waste == (result.waste_bytes if pool.shares else 0)
    for share in pool.shares:
        assert share.block.total == result.pool.planned_per_block
        assert 0 < share.filled <= 1
    assert pool.fit == max(0, pool.blocks - pool.null_blocks) // pool.blocks_per_sequence
    assert (pool.missing > 0) == (pool.batch > pool.fit)
    assert found.enough == (result.fits and not pool.missing)


def test_the_headline_says_how_many_fit_or_what_is_missing() -> None:
    fits = answer(sample(SAMPLE, batch=4))
    assert str(budget_headline(fits)) == f"Fits: 4 × 32,768 tokens wanted, room for {fits.result.sequences}"
    more = answer(sample(SAMPLE, batch=fits.result.sequences + 1))
    assert str(budget_headline(more)).startswith("Does not fit: ")
    small = answer(sample(SAMPLE, hbm="16GiB"))
    assert "missing for the engine to start" in str(budget_headline(small))


def test_what_is_likely_not_meant_is_said() -> None:
    found = answer(sample(SAMPLE, context=200_000, batch=300))
    said = " ".join(str(words) for words in warnings(found))
    assert "200,000 tokens are more than the model's own 131,072" in said
    assert "300 sequences are more than the 256 of one step" in said


def test_the_layout_that_would_fit_has_room_and_half_of_its_ranks_has_none() -> None:
    choice = sample(SAMPLE, context=131072, batch=8)
    fitting = further(choice).fitting
    assert fitting is not None
    assert answer(fitting).enough
    assert not answer(replace(fitting, tp=fitting.tp // 2)).enough
    assert fitting_text(fitting) == f"TP {fitting.tp}"
    assert further(fitting).fitting is None


def test_times_of_a_mixture_say_whether_its_experts_are_balanced(tmp_path: Path) -> None:
    """Went wrong once: the form had no way to say it, and showed a time without."""
    config = json.loads(SAMPLE.read_text())
    config |= {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_hidden_layers": 4,
               "num_local_experts": 8, "num_experts_per_tok": 2}  # fmt: skip
    mixture = tmp_path / "config.json"
    mixture.write_text(json.dumps(config))
    choice = sample(mixture, ep=4, tp=4, host_memory="64GiB")
    uneven, even = further(choice), further(replace(choice, even_routing=True))
    assert any("nobody balanced the experts" in str(note) for note in uneven.notes)
    assert uneven.notes[:1] == even.notes, "whose host it is goes for both"
    words = catalogue("zh")
    assert all(isinstance(note, Sentence) and note.text in words for note in uneven.notes)
    assert uneven.recompute_ns is not None
    assert even.recompute_ns is not None
    assert even.recompute_ns < uneven.recompute_ns
    assert further(replace(choice, host_memory=None)).notes == (), "no time is shown"
    found = answer(choice)
    assert any("nobody balanced" in str(row) for row in budget_sheet(found, uneven).rows)


def test_the_longest_context_of_the_batch_fits_and_one_token_more_does_not() -> None:
    choice = sample(SAMPLE, batch=20)
    longest = further(choice).longest
    assert answer(replace(choice, context=longest)).enough
    assert not answer(replace(choice, context=longest + 128)).enough
    lines = [str(line.label) for line in further_lines(further(EVERYTHING), 131072)]
    assert lines[0] == "longest for 3 at once"
    assert "block size 128: sequences" in lines


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (sample(SAMPLE.with_name("none.json")), "none.json"),
        (sample(SAMPLE, chip="910X"), "910X"),
        (sample(SAMPLE, engine="vllm-ascend", chip="910A"), "is not known for"),
        (sample(SAMPLE, tp=3), "3"),
        (sample(SAMPLE, pp=64), "64"),
        (sample(SAMPLE, hbm="much"), "much"),
        (sample(SAMPLE, draft_tokens=1), "multi-token prediction"),
        (sample(SAMPLE, ep=8), "expert parallelism"),
        (sample(SAMPLE, kv_dtype="int3"), "int3"),
    ],
)
def test_what_can_not_be_used_is_refused_in_a_line(choice: KvRequest, said: str) -> None:
    with pytest.raises(InputError, match=said):
        answer(choice)


def test_only_what_the_model_and_the_engine_take_is_offered() -> None:
    found = offer(sample(SAMPLE))
    assert found.positions == 131072
    assert found.engine == "vllm-ascend-0.23.0.post1-a2"
    assert found.default_kv in found.kv_types
    assert [found.has_drafts, found.has_indexer, found.has_experts] == [False] * 3
    for kind in found.kv_types:
        answer(sample(SAMPLE, kv_dtype=kind))
    for size in found.block_sizes:
        answer(sample(SAMPLE, block_size=size))


def test_every_chip_and_engine_that_is_offered_is_known() -> None:
    for name, shown in chip_names():
        assert chip(name).hbm_bytes
        assert shown.startswith(name)
    for rows in engine_versions().values():
        for name, _ in rows:
            assert engine(name, chip("910B3"))


def test_sliders_stop_at_round_numbers_and_at_the_models_own_context() -> None:
    assert {1024, 32768, 40960, 131072, 1 << 20} <= set(context_steps(40960))
    assert context_steps(10_000_000)[-1] == 10_000_000
    for steps in (context_steps(40960), batch_steps()):
        assert steps == sorted(set(steps))
    assert batch_steps()[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 10]


@given(st.integers(1, 1024), st.integers(-12, 12))
def test_doubling_keeps_to_powers_of_two_and_the_limits(value: int, times: int) -> None:
    found = doubled(value, times, low=1, high=1024)
    assert 1 <= found <= 1024
    if times:
        assert found & (found - 1) == 0


@given(st.lists(st.floats(0, 500), min_size=1, max_size=20), st.floats(5, 30))
def test_labels_keep_their_order_and_distance(centres: list[float], height: float) -> None:
    centres.sort()
    rows = spread(centres, height, 0, 500)
    assert len(rows) == len(centres)
    assert all(later - earlier >= height * 0.999 for earlier, later in itertools.pairwise(rows))
    if len(rows) * height <= 500:
        assert rows[0] >= height / 2 - 1e-6
        assert rows[-1] <= 500 - height / 2 + 1e-6


def test_the_cache_has_a_colour_of_its_own_in_every_palette() -> None:
    for theme in theme_names():
        for name in palette_names():
            palette = load_palette(theme, name)
            colours = stack_colours(palette)
            assert colours["kv"] == cache_colour(palette)
            assert colours["kv"] not in [
                colour for role, colour in colours.items() if role not in ("kv", "communication")
            ]


def test_the_sheet_holds_the_choice_the_memory_and_the_answers() -> None:
    found = answer(EVERYTHING)
    rows = budget_sheet(found, further(EVERYTHING)).rows
    assert ("choice", "", "tp", 4, "", "") in rows
    assert [row[3] for row in rows if row[0] == "memory"] == [item.nbytes for item in found.result.items]
    assert ("answer", "", "sequences", found.result.sequences, "sequences", "") in rows
    assert {row[1] for row in rows if row[0] == "tier"} >= {"host", "pool"}
    assert any(row[0] == "effect" for row in rows)
    assert all(len(row) == 6 for row in rows)


def test_published_models_add_up_too(published_configs: list[Path]) -> None:
    for path in published_configs[::5]:
        for name in ("vllm-ascend", "logical"):
            choice = sample(path, tp=8, engine=name)
            if "DeepSeek-V4.1" in path.name and name == "vllm-ascend":
                with pytest.raises(InputError, match="has no class for deepseek_v41"):
                    answer(choice)
                continue
            found = answer(choice)
            assert found.pool.sequence.waste == (found.result.waste_bytes if found.pool.shares else 0), path.name
            assert answers(found)
