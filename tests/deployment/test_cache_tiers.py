"""Tiers of KV caches: what they hold, when they pay, what to set, and latent caches that are on the dies in part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.deployment.cache_tiers import CacheTierPlan, asked_tier, prefill_curve, tier_plans
from memplan.deployment.cases import Case, recompute_ns
from memplan.deployment.latent_offload import layerwise_reuse, sparse_offload
from memplan.hardware import chip
from memplan.kv import Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout
from tests.deployment.test_service_search import CONFIG


def heads_case(tensor: int = 4, name: str = "vllm-ascend-0.23.0.post1", die_name: str = "910C") -> Case:
    """36 layers of 8 heads of 128 keys and values in 16 bits: 147,456 B a token."""
    die = chip(die_name)
    options = ServingOptions(32768)
    return Case(load_config(CONFIG), die, engine(name, die), options, Layout(tensor=tensor), Memory())


def latent_case(shared_data: Path) -> Case:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.2.json")
    die = chip("910C")
    layout = Layout(tensor=4, data=4, expert=16)
    return Case(model, die, engine("vllm-ascend", die), ServingOptions(65536), layout, Memory(precision="w8a8"))


def plan(case: Case, text: str, host: str = "captured") -> CacheTierPlan:
    case = replace(case, timed_by=host)
    return tier_plans(case, case.budget(), [asked_tier(text)])[0]


def test_heads_are_divided_and_repeated_no_further() -> None:
    assert plan(heads_case(4), "dram=144GiB").tokens == 144 * GIB // 147456
    assert plan(heads_case(4), "dram=144GiB").copies == 1
    assert plan(heads_case(16), "dram=144GiB").copies == 2  # 8 heads on 16 ranks
    assert plan(heads_case(16), "pool=144GiB").tokens == 2 * plan(heads_case(16), "dram=144GiB").tokens


def test_a_latent_is_kept_once_a_rank_in_host_memory_and_once_in_a_pool(shared_data: Path) -> None:
    case = latent_case(shared_data)
    host, pool = plan(case, "dram=512GiB"), plan(case, "pool=512GiB")
    assert (host.copies, pool.copies) == (4, 1)
    assert pool.tokens == pytest.approx(4 * host.tokens, rel=1e-6)
    assert pool.tokens == pytest.approx(512 * GIB / case.budget().bytes_per_token, rel=0.001)


def test_a_prefix_pays_from_the_crossing_on() -> None:
    case = heads_case()
    budget = case.budget()
    curve = prefill_curve(replace(case, timed_by="captured"), budget.context)
    for rate in ("300MB/s", "2500MB/s", "4GB/s", "20GB/s"):
        found = plan(case, f"ucm=1TiB@{rate}")
        assert found.rate is not None

        def saved(tokens: int, rate: float = found.rate) -> float:
            read = curve.reading(tokens + 128).duration_ns - curve.reading(128).duration_ns
            return read - budget.bytes_per_token * tokens / rate * 1e9

        if found.crossing is None:
            assert saved(budget.context) < 0
            continue
        assert found.crossing % budget.prefix_granularity == 0
        assert saved(found.crossing) >= 0
        if found.crossing > budget.prefix_granularity:
            assert saved(found.crossing - budget.prefix_granularity) < 0
        assert all(
            point.restore_ns is not None and point.restore_ns <= point.compute_ns
            for point in found.points
            if point.tokens >= found.crossing
        )
    assert plan(case, "ucm=1TiB@1MB/s").crossing is None
    slow, fast = plan(case, "ucm=1TiB@4GB/s").crossings
    assert slow is not None
    assert fast is None or slow <= fast


def test_an_unknown_rate_is_no_time() -> None:
    found = plan(heads_case(), "ucm=4TiB")
    assert (found.rate, found.crossing) == (None, None)
    assert all(point.restore_ns is None and point.compute_ns > 0 for point in found.points)
    assert any("no rate is known" in str(note) for note in found.notes)
    # No source says how fast a 950 reaches memory of a pool: its link to peers is not taken for it.
    other = plan(heads_case(die_name="Ascend950DT_9591", name="vllm-0.33.0-b200"), "ems=4TiB")
    assert other.rate is None


def test_what_all_ranks_read_at_once_is_shared() -> None:
    assert plan(heads_case(4), "dram=64GiB").rate == 55e9
    assert plan(heads_case(16), "dram=64GiB").rate == pytest.approx(442e9 / 16)


def test_registered_memory_has_its_limits() -> None:
    def said(text: str) -> str:
        return " ".join(map(str, plan(heads_case(), text).notes))

    assert "older drivers" not in said("dram=64GiB")
    assert "older drivers let a process register (18.63 GiB):" in said("dram=128GiB")
    assert "more than newer ones let register" in said("pool=8TiB")
    assert "unit of 1.00 GiB" in said("pool=2GiB")


def test_settings_are_those_of_the_engine() -> None:
    def settings(name: str, text: str, die: str = "910C") -> dict[str, str]:
        return {item.name: item.value for item in plan(heads_case(4, name, die), text).settings}

    case = heads_case()
    block = case.budget().pool.planned_per_block
    assert settings("vllm-ascend-0.23.0.post1", "dram=128GiB") == {"num_cpu_blocks": str(32 * GIB // block)}
    assert settings("vllm-ascend-0.30.0rc2", "dram=128GiB") == {"cpu_bytes_to_use": str(128 * GIB)}
    assert settings("vllm-0.33.0-h100", "dram=128GiB") == {"--kv-offloading-size": "128"}
    pool = settings("vllm-ascend", "pool=10GiB")
    assert pool["global_segment_size"] == str(2 * GIB)  # 2.5 GiB a die, of which whole ones
    assert pool["backend"] == "mooncake"


@pytest.mark.parametrize("text", ["dram", "dram=", "dram=12", "tape=4TiB", "dram=0GiB", "dram=4GiB@x"])
def test_what_is_no_tier_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        asked_tier(text)


def test_layers_share_as_few_buffers_as_hide_their_transfers(shared_data: Path) -> None:
    case = latent_case(shared_data)
    found = layerwise_reuse(case, case.budget())
    assert found.layers == 61
    assert found.factor == pytest.approx(61 / (1 + found.buffers))
    assert found.buffers >= 1 + (found.load_ns + found.save_ns) / found.compute_ns
    with pytest.raises(InputError, match="only latent caches"):
        layerwise_reuse(heads_case(), heads_case().budget())


def test_sparse_offload_is_bound_by_the_die_or_by_the_host(shared_data: Path) -> None:
    case = latent_case(shared_data)
    budget = case.budget()
    small, large = (sparse_offload(case, budget, size * GIB) for size in (4, 512))
    assert (large.picked, large.buffer_tokens) == (2048, 4096)
    assert small.host_sequences < small.sequences <= large.host_sequences
    assert large.sequences > budget.sequences
    # On the die the keys of the indexer, in host memory the latents: together all that a token takes, and the buffer.
    latent = large.host_sequence_bytes / budget.context
    keys = large.device_bytes - latent * large.buffer_tokens
    assert keys + large.host_sequence_bytes == pytest.approx(budget.bytes_per_token * budget.context, rel=1e-6)
    with pytest.raises(InputError, match="no indexer"):
        sparse_offload(heads_case(), heads_case().budget(), GIB)


def test_traffic_is_found_in_the_tiers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, traffic = tmp_path / "config.json", tmp_path / "traffic.jsonl"
    config.write_text(json.dumps(CONFIG), "utf-8")
    rows = [
        {"timestamp": 1000 * number, "input_length": 4097, "output_length": 64,
         "hash_ids": [*range(8 * (number % 50), 8 * (number % 50) + 8), 10_000 + number]}
        for number in range(200)
    ]  # fmt: skip
    traffic.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    asked = ["kv", str(config), "--chip", "910C", "--tp", "4", "--hbm", "14GiB", "--tier", "dram=64GiB"]
    assert main([*asked, "--trace", str(traffic), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    tiers = told["traffic"]["tiers"]
    assert [item["name"] for item in tiers] == ["HBM", "dram"]
    # 50 prompts of 4,096 tokens are held in both tiers together, and found three times of four.
    assert sum(item["hit_tokens"] for item in tiers) == 150 * 4096
    assert tiers[0]["tokens"] == told["tokens"] < 50 * 4096
    assert tiers[1]["hit_tokens"] > 0
    assert told["cache_tiers"][0]["settings"]
    assert main([*asked, "--trace", str(traffic), "--format", "md"]) == 0
    assert "What traffic finds" in capsys.readouterr().out
    assert main(["kv", str(config), "--tier", "tape=1GiB"]) == 2


@pytest.mark.parametrize("asked", [("--host-memory", "64GiB"), ("--tier", "dram=512GiB")])
def test_times_of_a_mixture_say_whether_experts_are_balanced(
    shared_data: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, ...]
) -> None:
    config = shared_data / "configs" / "Qwen--Qwen3-30B-A3B.json"
    words = ["kv", str(config), "--chip", "910C", "--dp", "16", "--ep", "16", "--context", "8192", "--json"]
    found = []
    for more in ((), asked, (*asked, "--even-routing")):
        assert main([*words, *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    budget, uneven, even = found
    said = [any("--even-routing" in note for note in each["notes"]) for each in found]
    assert said == [False, True, False]
    if asked[0] == "--host-memory":
        assert even["recompute_ns"] < uneven["recompute_ns"]
    assert budget["sequences"] == uneven["sequences"] == even["sequences"]


def test_recomputing_a_prefix_takes_what_reading_it_does(shared_data: Path) -> None:
    """Went wrong once: tiers had weights as the chip runs them, what was recomputed instead as they are published."""
    model, die = load_config(shared_data / "configs" / "openai--gpt-oss-120b.json"), chip("910C")
    times = [
        recompute_ns(
            Case(model, die, engine("vllm-ascend", die), ServingOptions(4096), Layout(tensor=8), Memory(precision=name))
        )
        for name in ("published", "bf16")
    ]
    assert times[0] == times[1]
