"""Times of serving steps: against published tables with one set of constants, and the ways they must move."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engine_hosts import (
    fitted_rows,
    found_hosts,
    host_quantiles,
    host_spread,
    hosts_of_others,
    measured_engine_rows,
)
from benchmarks.engine_rows import engine_rows, shipped_hosts
from benchmarks.serving import exchanges, rows
from memplan.core.errors import InputError
from memplan.engines import CAPTURED
from memplan.hardware import chip
from memplan.models import ModelConfig, load_config
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import StepTime, accepted, constants, step_time
from memplan.serving.constants import accepted_in_turn, engine_host, host_interval, sources, step_interval
from memplan.serving.host_factor import found_host_factor
from memplan.serving.step_parts import served_parts

FAMILIES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "models" / "families.json").read_text(encoding="utf-8")
)
DECODE = ServedStep(Phase.DECODE, 8, 2048)


@pytest.fixture(scope="module")
def dense() -> ModelConfig:
    return load_config(FAMILIES["qwen2"]["config"])


@pytest.fixture(scope="module")
def sparse() -> ModelConfig:
    model = load_config(FAMILIES["glm4_moe"]["config"])
    return replace(model, layers=model.layers[:8])


def time(model: ModelConfig, layout: Layout, step: ServedStep, name: str = "910C") -> StepTime:
    return step_time(model, layout, step, name, engine=CAPTURED)


def share(result: StepTime, name: str) -> int:
    return next((item.duration_ns for item in result.by_class if item.name == name), 0)


def test_published_serving_tables_are_met(shared_data: Path) -> None:
    found = list(rows(shared_data / "hardware" / "validation.json", shared_data / "configs"))
    assert len(found) == 26
    assert median(abs(row.error) for row in found) <= 0.2
    # The worst is a row that its own table contradicts: faster at 128K than half as many sequences are at 8K.
    assert sorted(abs(row.error) for row in found)[-2] < 0.4


def test_an_engine_takes_its_own_time_beside_the_captured_step(dense: ModelConfig) -> None:
    plain, served = time(dense, Layout(), DECODE), step_time(dense, Layout(), DECODE, "910C", engine="vllm-ascend")
    host = engine_host("vllm-ascend", alone=True)
    assert served.host_ns == served.duration_ns - plain.duration_ns
    assert served.host_ns == host.step_ns + DECODE.batch * host.sequence_ns
    assert sum(part.duration_ns for part in served_parts(served)) == served.duration_ns
    assert any("left out" in note for note in served.notes)
    assert any("hidden" in note for note in plain.notes)
    with pytest.raises(InputError, match="known: captured, vllm-ascend"):
        step_time(dense, Layout(), DECODE, "910C", engine="nobody's")


def test_a_host_that_launches_paces_small_steps(dense: ModelConfig) -> None:
    """Little work takes a time a layer with graphs in pieces, else a time a kernel; a long prompt takes what its do."""
    layers = len(dense.layers)
    for engine in ("vllm-ascend-piecewise", "vllm-ascend-eager"):
        small = step_time(dense, Layout(tensor=8), ServedStep(Phase.DECODE, 1, 512), "910C", engine=engine)
        host = engine_host(engine)
        assert small.duration_ns == layers * host.layer_ns + small.stages[0].launches * host.kernel_ns
        assert (host.layer_ns == 0) is (engine == "vllm-ascend-eager") is (host.kernel_ns > 0)
        assert sum(part.duration_ns for part in served_parts(small)) == small.duration_ns
        assert small.host_ns > host.step_ns
    each = engine_host("vllm-ascend-full").launch_ns
    whole, short = (
        step_time(dense, Layout(), ServedStep(Phase.PREFILL, 1, tokens), "910C", engine="vllm-ascend-full")
        for tokens in (32768, 16)
    )
    assert whole.duration_ns > whole.stages[0].launches * each
    assert short.duration_ns == short.stages[0].launches * each


def test_an_engine_runs_other_mixers_than_grouped_attention_in_more_kernels(dense: ModelConfig) -> None:
    """Recurrences only before 2026: one operator runs them since."""
    latent, recurrent = (load_config(FAMILIES[name]["config"]) for name in ("deepseek_v3-nolora", "qwen3_5_text"))
    states = sum(isinstance(layer.mixer, GatedDeltaNet) for layer in recurrent.layers)
    assert 0 < states < len(recurrent.layers)
    for engine, split in (("vllm-ascend-full", 0), ("vllm-ascend-synchronous", states)):
        host = engine_host(engine)
        for model, unfused in ((dense, 0), (latent, len(latent.layers)), (recurrent, split)):
            served = step_time(model, Layout(tensor=2), DECODE, "910C", engine=engine)
            assert served.host_ns == host.step_ns + DECODE.batch * host.sequence_ns + unfused * host.unfused_layer_ns


def test_releases_join_or_split_what_a_gated_delta_rule_makes_tokens_by() -> None:
    """Two unit lengths and the gates are kernels of their own since 0.19.1; before, gates where drafts are verified."""
    model = load_config(FAMILIES["qwen3_5_text"]["config"])
    states = sum(isinstance(layer.mixer, GatedDeltaNet) for layer in model.layers)
    model = replace(model, mtp_layers=(replace(model.layers[-1], index=len(model.layers)),))
    assert not isinstance(model.layers[-1].mixer, GatedDeltaNet)

    def kernels(engine: str, drafts: int = 0) -> int:
        step = replace(DECODE, speculative=drafts)
        return step_time(model, Layout(), step, "910B3", engine=engine).work.kernels

    split, joined = "vllm-ascend-0.19.1rc1-full", "vllm-ascend-0.18.0-full"
    assert kernels(split) - kernels(joined) == 3 * states
    assert kernels(split, 1) - kernels(joined, 1) == 2 * states
    assert kernels("sglang") == kernels(joined)
    assert kernels("vllm-ascend") == kernels(split)


def test_collectives_beyond_a_server_begin_later(dense: ModelConfig) -> None:
    """Went wrong once: sixteen ranks of two servers exchanged as soon as eight of one."""
    model = replace(dense, layers=dense.layers[:4])
    exchanged = {
        chip: share(time(model, Layout(tensor=16), ServedStep(Phase.DECODE, 1, 512), chip), "collectives")
        for chip in ("910B3", "910C")
    }
    apart = constants().beyond_server_base_ns - constants().collective_base_ns
    assert exchanged["910B3"] - exchanged["910C"] > 8 * apart


@pytest.mark.parametrize("engine", ["vllm-ascend-piecewise", "vllm-ascend", "vllm-ascend-0.21.0rc1"])
def test_short_prompts_are_read_in_captured_pieces(dense: ModelConfig, engine: str) -> None:
    """As vLLM does up to its largest graph; went wrong once: chunks of 256 tokens were launched kernel by kernel."""
    host = engine_host(engine)
    taken = [
        step_time(dense, Layout(tensor=8), ServedStep(Phase.PREFILL, 1, tokens), "910C", engine=engine)
        for tokens in (host.captured_tokens, host.captured_tokens + 1)
    ]
    launched = taken[1].stages[0].launches * host.launch_ns
    assert len(dense.layers) * host.prompt_layer_ns <= taken[0].duration_ns < launched == taken[1].duration_ns


def test_whole_graphs_make_tokens_where_prompts_are_read_in_pieces(dense: ModelConfig) -> None:
    """FULL_AND_PIECEWISE: tokens are made as by whole graphs, short prompts are read as in pieces."""
    engines = ("vllm-ascend", "vllm-ascend-full", "vllm-ascend-piecewise")
    for tensor in (1, 8):
        made, read = (
            [step_time(dense, Layout(tensor=tensor), step, "910B3", engine=engine).duration_ns for engine in engines]
            for step in (DECODE, ServedStep(Phase.PREFILL, 1, 16))
        )
        assert made[0] == made[1] <= made[2]
        assert read[0] == read[2] < read[1]


def test_a_cube_without_bfloat16_runs_float16(dense: ModelConfig) -> None:
    """Went wrong once: vector cores multiplied the matrices of a 310P, in a hundred times the time."""
    read = step_time(dense, Layout(), ServedStep(Phase.PREFILL, 1, 1024), "310P3")
    assert any("no bfloat16" in note for note in read.notes)
    products = next(share for share in read.by_class if share.name == "matrix products")
    assert products.duration_ns < 20 * next(share for share in read.by_class if share.name == "vector").duration_ns
    assert not any("no bfloat16" in note for note in step_time(dense, Layout(), DECODE, "910C").notes)


def test_layers_of_other_mixers_take_longest_to_launch_where_prompts_are_read(dense: ModelConfig) -> None:
    latent = load_config(FAMILIES["deepseek_v3-nolora"]["config"])
    host = engine_host("sglang")
    for model, more in ((dense, 0), (latent, host.prompt_unfused_layer_ns)):
        read = step_time(model, Layout(tensor=2), ServedStep(Phase.PREFILL, 1, 16), "910C", engine="sglang")
        launched = read.stages[0].launches * host.launch_ns
        assert read.duration_ns == launched + more * len(model.layers)


def test_every_further_sequence_has_its_time(dense: ModelConfig) -> None:
    """Of a replica: those of others have hosts of their own."""
    host = engine_host("vllm-ascend")
    for layout, sequences in ((Layout(tensor=2), 64), (Layout(data=2), 32)):
        served = step_time(dense, layout, ServedStep(Phase.DECODE, 64, 512), "910C", engine="vllm-ascend")
        assert served.host_ns == host.step_ns + sequences * host.sequence_ns


@pytest.mark.parametrize("engine", ["vllm-ascend", "vllm-ascend-piecewise", "vllm-ascend-eager"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.5])
def test_a_measured_step_says_the_host_of_its_machine(dense: ModelConfig, engine: str, factor: float) -> None:
    layout, small = Layout(tensor=8), ServedStep(Phase.DECODE, 1, 512)
    told = step_time(dense, layout, small, "910B3", engine=engine)
    there = step_time(dense, layout, small, "910B3", engine=engine, host_factor=factor)
    assert found_host_factor(told, there.duration_ns) == pytest.approx(factor, abs=0.01)
    assert found_host_factor(told, told.duration_ns - told.host_ns - 1e6) is None
    assert not any("the host sets" in note for note in there.notes)
    # How hosts of machines differ is no part of what is not known of this one.
    shares = [item.interval_ns[1] / item.duration_ns for item in (there, told)]
    assert shares[0] <= shares[1] + 1e-6


def test_no_host_is_found_for_a_stack_that_hides_it(dense: ModelConfig) -> None:
    hidden = time(dense, Layout(), DECODE)
    assert found_host_factor(hidden, hidden.duration_ns * 2.0) is None
    with pytest.raises(InputError, match="times as long"):
        step_time(dense, Layout(), DECODE, "910C", engine="vllm-ascend", host_factor=-1.0)


def test_an_engine_whose_host_shows_on_some_machines_alone_says_so(dense: ModelConfig) -> None:
    for engine, told in (("mindie", True), ("captured", False)):
        small = step_time(dense, Layout(tensor=8), ServedStep(Phase.DECODE, 1, 512), "910B3", engine=engine)
        assert any("few processors" in note for note in small.notes) is told
        assert (small.interval_ns[1] > small.duration_ns + 10e6) is told
        assert small.host_ns == engine_host(engine).step_ns
    read = step_time(dense, Layout(tensor=8), ServedStep(Phase.PREFILL, 1, 16), "910B3", engine="mindie")
    assert read.host_ns == engine_host("mindie").step_ns > 0


def test_an_engine_that_is_like_another_takes_what_it_leaves_out_from_that() -> None:
    base = engine_host("vllm-ascend-full")
    assert engine_host("sglang") == engine_host("xllm") == base
    assert engine_host("vllm-ascend-synchronous") == replace(base, recurrence_counts=1)
    eager, pieces = engine_host("vllm-ascend-eager"), engine_host("vllm-ascend-piecewise", alone=True)
    assert replace(eager, kernel_ns=base.kernel_ns) == base
    assert replace(pieces, captured_tokens=0) == engine_host("vllm-ascend-full", alone=True)
    both, apart = engine_host("vllm-ascend"), engine_host("vllm-ascend-piecewise")
    assert replace(apart, layer_ns=0, captured_tokens=both.captured_tokens) == both
    assert replace(both, prompt_layer_ns=0, captured_tokens=0) == base
    assert step_interval("sglang") != step_interval("xllm") == step_interval("vllm-ascend")


def test_drafts_that_the_host_launches_take_their_own_time(sparse: ModelConfig) -> None:
    drafted = replace(DECODE, speculative=1)
    model = replace(sparse, mtp_layers=sparse.mtp_layers or (replace(sparse.layers[-1], index=len(sparse.layers)),))
    plain = step_time(model, Layout(), drafted, "910C", engine="vllm-ascend")
    eager = step_time(model, Layout(), drafted, "910C", engine="vllm-ascend", eager_drafts=True)
    more = plain.work.kernels - step_time(model, Layout(), DECODE, "910C").work.kernels
    assert plain.work.drafted == more > 5
    assert eager.duration_ns - plain.duration_ns == more * engine_host("vllm-ascend").launch_ns
    with pytest.raises(InputError, match="nothing is known of captured with --eager-drafts"):
        step_time(model, Layout(), drafted, "910C", engine=CAPTURED, eager_drafts=True)


@pytest.mark.slow
def test_what_an_engine_takes_is_known_from_its_other_sources(shared_data: Path) -> None:
    """Left out in turn, sources are predicted by the others; without the host's time nearly all are too fast."""
    rows = engine_rows(shared_data)
    found = found_hosts(fitted_rows(rows))
    for engine, host in shipped_hosts().items():
        # A time of a few microseconds is shipped to two digits, one of a step to the tenth of a millisecond.
        assert astuple(host) == pytest.approx(astuple(found[engine]), rel=0.02, abs=0.05e6), engine
    errors: dict[str, list[float]] = {}
    for row in measured_engine_rows(rows):
        if row.left_out:
            kind = "first token" if row.kind.endswith("first token") else row.kind
            errors.setdefault(kind, []).append(row.left_out / row.measured - 1)
    served, hidden = errors["served by vllm-ascend"], engine_host("captured")
    bare = [
        row.predicted(hidden) / row.measured - 1 for row in rows if row.kind == "served by vllm-ascend" and not row.why
    ]
    # It was 14.1 % while a gated delta rule made tokens in one kernel whatever the release.
    assert median(abs(error) for error in served) < 0.16 < 0.35 < median(abs(error) for error in bare)
    # It was 6 % while rows of which inputs were assumed had a say in the constants.
    assert abs(median(served)) < 0.05
    # Hosts differ by more: a page of small models has a fourth of the usual one, containers have three times as much.
    assert sum(abs(error) > 0.4 for error in served) <= 0.16 * len(served)
    # First tokens of five engines: all were too fast once, and three of a server's first requests still are.
    first = errors["first token"]
    assert median(abs(error) for error in first) < 0.175
    assert abs(median(first)) < 0.08
    # Runs reach their baselines, in tokens a second: few may be predicted to be much slower.
    baselines = errors["served by vllm-ascend, at least"]
    assert sum(error < -0.25 for error in baselines) <= 0.05 * len(baselines)
    # An engine that hides its host takes what the kernels take and others' prompts among the answers.
    assert max(abs(error) for error in errors["served by xlite"]) < 0.1


def test_every_figure_of_a_host_is_told() -> None:
    """Went wrong once: what layers of other mixers take to launch where prompts are read was used and not told."""
    host, told = engine_host("sglang"), [source.value for source in sources() if source.value.startswith("host")]
    own = next(text for text in told if "sglang" in text)
    for figure in (host.step_ns, host.sequence_ns, host.unfused_layer_ns, host.prompt_unfused_layer_ns):
        assert f"{figure:g} ns" in own
    for figure in (host.launch_ns, host.request_ns):
        assert any(f"{figure:g} ns" in text for text in told)
    for factor in (host_interval().low, host_interval().high, host_interval().contained_high):
        assert any(f"{factor:g} times" in text or f"{factor:g} to" in text for text in told)


@pytest.mark.slow
def test_intervals_hold_where_the_host_sets_the_step_and_where_the_die_does(shared_data: Path) -> None:
    """Of rows that are not blind, with their own source left out of the constants and of the spread of hosts."""
    rows = engine_rows(shared_data)
    seen = [row for row in rows if not row.why and row.alike]
    others, hosts = hosts_of_others(rows), host_interval()
    found = [host_spread(row, others[row.source]) for row in seen]
    spread = host_quantiles(found)
    assert (hosts.low, hosts.high) == pytest.approx(spread, abs=0.03)
    for bound in (True, False):
        inside = []
        for row, item in zip(seen, found, strict=True):
            if (item.share >= hosts.at_least) is bound:
                least, most = host_quantiles(other for other in found if other.source != item.source)
                low, high = step_interval(row.engine, item.share, hosts=replace(hosts, low=least, high=most))
                inside.append(low <= item.times <= high)
        assert len(inside) > 30
        # Sources first seen are missed by more, and intervals are as wide as they need: four of five of those.
        assert 0.8 <= mean(inside) <= 0.98


def test_an_interval_is_wider_the_more_of_a_step_is_its_hosts() -> None:
    for engine in ("captured", "vllm-ascend", "sglang"):
        found = [step_interval(engine, part / 10) for part in range(11)]
        assert all(low >= then[0] and high <= then[1] for (low, high), then in pairwise(found))
    low, high = step_interval("vllm-ascend", 1.0)
    assert low <= host_interval().low
    assert high > host_interval().high


def test_a_step_that_its_host_sets_says_so(dense: ModelConfig) -> None:
    small, large = ServedStep(Phase.DECODE, 1, 512), ServedStep(Phase.DECODE, 256, 32768)
    eager = [step_time(dense, Layout(tensor=8), step, "910C", engine="vllm-ascend-eager") for step in (small, large)]
    assert [any("the host sets this step" in note for note in found.notes) for found in eager] == [True, False]
    low, high = eager[0].interval_ns
    assert low < eager[1].interval_ns[0] * eager[0].duration_ns / eager[1].duration_ns
    assert high > 1.6 * eager[0].duration_ns


def test_published_exchanges_of_tokens_are_met(shared_data: Path) -> None:
    for name, measured, predicted in exchanges(shared_data / "hardware" / "validation.json"):
        assert predicted == pytest.approx(measured, rel=0.05), name


def test_a_dense_model_streams_its_weights(dense: ModelConfig) -> None:
    """A small batch can't be faster than HBM gives the weights, nor much slower."""
    result = time(dense, Layout(), ServedStep(Phase.DECODE, 1, 512))
    floor = result.stages[0].weight_bytes / 1.6e12 * 1e9
    assert floor < result.duration_ns < 2 * floor


def test_the_parts_make_up_the_step(sparse: ModelConfig) -> None:
    result = time(sparse, Layout(data=8, expert=8), DECODE)
    stage = result.stages[0]
    assert sum(item.duration_ns for item in result.by_class) == sum(item.duration_ns for item in result.by_bound)
    assert sum(item.duration_ns for item in result.by_class) == sum(op.duration_ns for op in stage.ops)
    # Shared experts run beside the routed ones: the step is shorter than its parts.
    assert stage.duration_ns < sum(op.duration_ns for op in stage.ops)
    for stream in (0, 1):
        own = [op for op in stage.ops if op.op.stream == stream]
        assert all(a.start_ns + a.duration_ns <= b.start_ns for a, b in pairwise(own))
    assert result.rests_on


@pytest.mark.parametrize("change", [{"batch": 64}, {"context": 65536}])
def test_more_work_takes_longer(dense: ModelConfig, change: Mapping[str, Any]) -> None:
    more = replace(DECODE, **change)
    assert time(dense, Layout(), more).duration_ns > time(dense, Layout(), DECODE).duration_ns


def test_fewer_bits_and_more_ranks_take_less(dense: ModelConfig) -> None:
    plain = time(dense, Layout(), DECODE)
    assert time(dense, Layout(), replace(DECODE, precision="w8a8")).duration_ns < plain.duration_ns
    split = time(dense, Layout(tensor=2), DECODE)
    assert plain.duration_ns / 2 < split.duration_ns < plain.duration_ns
    assert share(split, "collectives") > 0 == share(plain, "collectives")
    long = replace(DECODE, batch=64, context=32768)
    assert time(dense, Layout(), replace(long, kv="int8")).duration_ns < time(dense, Layout(), long).duration_ns


def test_a_faster_chip_is_faster(dense: ModelConfig) -> None:
    assert time(dense, Layout(), DECODE, "950DT_9591").duration_ns < time(dense, Layout(), DECODE).duration_ns
    assert time(dense, Layout(), DECODE).duration_ns <= time(dense, Layout(), DECODE, "910B4").duration_ns


def test_a_prefill_reads_its_prompt(dense: ModelConfig) -> None:
    whole = time(dense, Layout(), ServedStep(Phase.PREFILL, 1, 8192))
    assert whole.tpot_ns is None
    assert whole.tokens_per_second == pytest.approx(8192 / whole.duration_ns * 1e9)
    warm = time(dense, Layout(), ServedStep(Phase.PREFILL, 1, 8192, cached=6144))
    assert warm.duration_ns < whole.duration_ns / 2
    spread = time(dense, Layout(context=4), ServedStep(Phase.PREFILL, 1, 8192))
    assert whole.duration_ns / 4 < spread.duration_ns < whole.duration_ns


def test_drafts_yield_more_tokens(sparse: ModelConfig) -> None:
    step = replace(DECODE, speculative=3)
    model = replace(sparse, mtp_layers=sparse.mtp_layers or (replace(sparse.layers[-1], index=len(sparse.layers)),))
    default, sure = time(model, Layout(), step), step_time(model, Layout(), step, "910C", engine=CAPTURED, acceptance=3)
    assert default.tokens_per_sequence == 1 + accepted(3, CAPTURED)
    assert sure.tokens_per_sequence == 4
    assert sure.tpot_ns is not None
    assert default.tpot_ns is not None
    assert sure.tpot_ns < default.tpot_ns


def test_acceptance_is_that_of_the_published_tables() -> None:
    """Reference tables count fewer accepted drafts than services report."""
    assert accepted(1, "vllm-ascend") == pytest.approx(0.886)
    assert accepted(2, "vllm-ascend") == pytest.approx(1.55, abs=0.03)
    assert accepted(3, "vllm-ascend") == pytest.approx(2.0, abs=0.02)
    assert accepted_in_turn(3, 0.5, 0.5) == pytest.approx(0.5 + 0.25 + 0.125)
    assert accepted(0) == 0
    assert accepted(1, CAPTURED) == pytest.approx(0.7)
    assert accepted(3, CAPTURED) == pytest.approx(1.44, abs=0.005)
    assert accepted(1, CAPTURED) < accepted(2, CAPTURED) < accepted(3, CAPTURED)


def test_stages_follow_each_other(dense: ModelConfig) -> None:
    whole, staged = time(dense, Layout(), DECODE), time(dense, Layout(pipeline=2), DECODE)
    assert staged.duration_ns > 0.9 * whole.duration_ns
    # Both stages are busy with a batch of their own.
    assert staged.tokens_per_second > 1.5 * whole.tokens_per_second
    assert sum(stage.weight_bytes for stage in staged.stages) >= whole.stages[0].weight_bytes


def test_the_stage_that_drafts_launches_its_drafts(dense: ModelConfig) -> None:
    """Went wrong once: stages were as quick as with one graph to launch each, whoever drafts."""
    drafting = replace(dense, mtp_layers=(replace(dense.layers[-1], index=len(dense.layers)),))
    paces = []
    for drafts in (0, 3):
        found = time(drafting, Layout(pipeline=2), replace(DECODE, speculative=drafts))
        pace = DECODE.batch * found.tokens_per_sequence / found.tokens_per_second * 1e9
        paces.append(pace - found.stages[-1].duration_ns)
    assert paces == pytest.approx([constants().step_overhead_ns, 4 * constants().step_overhead_ns], rel=0.01)


def test_links_that_nobody_published_are_said_to_be_unknown(sparse: ModelConfig) -> None:
    result = time(sparse, Layout(data=8, expert=8), DECODE, "310P3")
    assert any("links" in note for note in result.notes)


def test_constants_have_sources() -> None:
    document = json.loads(
        (Path(__file__).parents[2] / "memplan" / "serving" / "constants.json").read_text(encoding="utf-8")
    )
    assert set(document["constants"]) == set(constants().__slots__)
    for entry in document["constants"].values():
        assert entry["source"]


def test_a_layout_that_does_not_divide_is_refused(dense: ModelConfig) -> None:
    with pytest.raises(InputError, match="7 ranks"):
        time(dense, Layout(tensor=7), DECODE)
    with pytest.raises(InputError):
        step_time(dense, Layout(), DECODE, "no such chip")


def test_chips_without_a_cube_type_still_have_a_time(dense: ModelConfig) -> None:
    """MX formats on a generation that lacks them run on the vector units: slow, and said by the bound."""
    fast = step_time(dense, Layout(), replace(DECODE, precision="mxfp8"), chip("950DT_9591"))
    slow = step_time(dense, Layout(), replace(DECODE, precision="mxfp8"), chip("910C"))
    assert slow.duration_ns > fast.duration_ns


LAYOUTS = st.builds(
    Layout,
    tensor=st.sampled_from([1, 2, 3, 8, 16]),
    pipeline=st.sampled_from([1, 2, 5]),
    data=st.sampled_from([1, 2, 7]),
    expert=st.sampled_from([1, 2, 5, 16]),
    context=st.sampled_from([1, 2]),
)


@settings(max_examples=60)
@given(
    name=st.sampled_from([name for name in FAMILIES if name != "source"]),
    layout=LAYOUTS,
    phase=st.sampled_from(list(Phase)),
    batch=st.sampled_from([1, 3, 64, 4096]),
    context=st.sampled_from([1, 129, 4096]),
    precision=st.sampled_from(["published", "w8a8", "w4a8", "mxfp8-mxfp4"]),
    ranks=st.sampled_from([1, 3, 4]),
    spread=st.booleans(),
)
def test_any_step_has_a_time_or_is_refused(
    name: str, layout: Layout, phase: Phase, batch: int, context: int, precision: str, ranks: int, spread: bool
) -> None:
    model = load_config(FAMILIES[name]["config"])
    model = replace(model, layers=model.layers[:5])
    step = ServedStep(
        phase, batch, context, precision=precision, sequence_parallel=spread, output_parallel=ranks,
        head_parallel=ranks, dense_parallel=ranks, embedding_parallel=ranks,
    )  # fmt: skip
    try:
        result = step_time(model, layout, step, "910C")
    except InputError:
        return
    assert result.duration_ns > 0
    assert all(op.duration_ns >= 0 for stage in result.stages for op in stage.ops)
