"""Engines by their releases: what each does unless told otherwise, and options in the engines' own words."""

from __future__ import annotations

import pytest

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.engines import CAPTURED, DEFAULT_ENGINE, GRAPHS, engine_is_known, step_mode
from memplan.kv.engine_files import engines
from memplan.serving.constants import accepted, attention_type, engine_host, host_of, step_interval
from memplan.serving.loaded_steps import prompt_steps

FAMILIES = table("memplan.engines", "releases.json")["families"]
MODES = table("memplan.serving", "constants.json")["engines"]
KNOWN = [f"{name}-{release}" for name, family in FAMILIES.items() for release in family.get("releases", ())]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_mode_has_times_and_every_period_a_source(family: str) -> None:
    for period in FAMILIES[family]["periods"]:
        assert set(period.get("modes", {}).values()) <= set(MODES)
        assert set(period.get("modes", {})) | set(period.get("taken_as", {})) <= set(GRAPHS)
        assert "https://" in period["source"] or "constants.json" in period["source"]
    assert all(kind.get("graphs", "none") in GRAPHS for kind in FAMILIES[family].get("kinds", {}).values())


@pytest.mark.parametrize(("engine", "mixes"), [("v0.11.0", True), ("VLLM_Ascend==0.18.0", True), ("SGLang", False)])
def test_prompts_are_read_as_by_the_engine_however_it_is_spelled(engine: str, *, mixes: bool) -> None:
    """Went wrong once: a release of the default engine was taken for one of which nothing is known."""
    assert prompt_steps(engine, 2048) == prompt_steps(step_mode(engine).name, 2048)
    assert prompt_steps(engine, 2048).mixes is mixes


@pytest.mark.parametrize("family", FAMILIES)
def test_of_every_engine_it_is_said_how_it_reads_prompts(family: str) -> None:
    assert prompt_steps(family, None).most is None


def test_reference_stacks_are_known_however_they_are_spelled() -> None:
    assert accepted(3, " Captured") == accepted(3, CAPTURED) != accepted(3, DEFAULT_ENGINE)
    assert step_interval(" Captured") == step_interval(CAPTURED)


@pytest.mark.parametrize("name", [*FAMILIES, *KNOWN])
def test_what_is_found_can_be_asked_for_again(name: str) -> None:
    had = step_mode(name)
    others = [step_mode(name, graphs=graphs) for graphs in GRAPHS if name.startswith("vllm-ascend")]
    for mode in (had, *others):
        again = step_mode(mode.name)
        assert (again.name, again.mode, again.attention) == (mode.name, mode.mode, mode.attention)
        assert engine_host(mode.name) == engine_host(mode.mode)
        assert step_interval(mode.name) == step_interval(mode.mode)


def test_modes_are_called_as_ever() -> None:
    for name in MODES:
        assert step_mode(name).mode == step_mode(name).name == name


@pytest.mark.parametrize(
    ("release", "graphs", "host", "ahead"),
    [
        ("0.7.3", "none", "vllm-ascend-eager", False),
        ("0.8.5rc1", "none", "vllm-ascend-eager", False),
        ("0.9.0rc1", "piecewise", "vllm-ascend-piecewise", False),
        ("0.9.1", "piecewise", "vllm-ascend-piecewise", False),
        ("0.11.0", "piecewise", "vllm-ascend-piecewise", False),
        ("0.13.0", "piecewise", "vllm-ascend-piecewise", False),
        ("0.14.0rc1", "piecewise", "vllm-ascend-piecewise", True),
        ("0.18.0", "piecewise", "vllm-ascend-piecewise", True),
        ("0.20.2rc1", "piecewise", "vllm-ascend-piecewise", True),
        ("0.21.0rc1", "full_and_piecewise", "vllm-ascend", True),
        ("0.23.0.post1", "full_and_piecewise", "vllm-ascend", True),
        ("0.30.0rc2", "full_and_piecewise", "vllm-ascend", True),
    ],
)
def test_a_release_runs_steps_as_it_does_by_default(release: str, graphs: str, host: str, ahead: bool) -> None:
    found = step_mode(f"vllm-ascend-{release}")
    assert (found.graphs, found.mode, found.ahead) == (graphs, host, ahead)
    eager = step_mode(f"vllm-ascend-{release}", eager=True)
    assert (eager.mode, eager.graphs) == ("vllm-ascend-eager", "none")


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("v0.9.1", "vllm-ascend-0.9.1"),
        ("0.7.3", "vllm-ascend-0.7.3"),
        ("vllm-ascend-v0.11.0rc2", "vllm-ascend-0.11.0rc2"),
        ("vllm-ascend==0.18.0", "vllm-ascend-0.18.0"),
        ("vllm_ascend:v0.23.0", "vllm-ascend-0.23.0"),
        ("vLLM-Ascend 0.23.0", "vllm-ascend-0.23.0"),
        ("vllm-ascend-0.12.0", "vllm-ascend-0.12.0"),  # of which there were candidates alone
        ("vllm-ascend-0.18.0-eager", "vllm-ascend-0.18.0-eager"),
        ("sglang-0.5.4", "sglang-0.5.4"),
        ("mindie-2.1.RC1", "mindie-2.1.rc1"),
        ("MindIE", "mindie"),
    ],
)
def test_releases_are_known_however_they_are_spelled(spelled: str, name: str) -> None:
    assert step_mode(spelled).name == name


@pytest.mark.parametrize(
    ("engine", "graphs", "mode", "had"),
    [
        ("vllm-ascend", "FULL_DECODE_ONLY", "vllm-ascend-full", "full_decode_only"),
        ("vllm-ascend", "PIECEWISE", "vllm-ascend-piecewise", "piecewise"),
        ("vllm-ascend", "none", "vllm-ascend-eager", "none"),
        ("vllm-ascend-0.18.0", "full_decode_only", "vllm-ascend-full", "full_decode_only"),
        ("vllm-ascend-0.18.0", "full_and_piecewise", "vllm-ascend-piecewise", "piecewise"),
        ("vllm-ascend-0.13.0", "full_decode_only", "vllm-ascend-synchronous", "full_decode_only"),
        ("vllm-ascend-0.11.0", "full", "vllm-ascend-eager", "none"),
        ("vllm-ascend-0.9.1", "full", "vllm-ascend-piecewise", "piecewise"),
        ("vllm-ascend-0.7.3", "piecewise", "vllm-ascend-eager", "none"),
        ("sglang", "full_decode_only", "sglang", "full"),
    ],
)
def test_graphs_are_captured_as_the_release_can(engine: str, graphs: str, mode: str, had: str) -> None:
    found = step_mode(engine, graphs=graphs)
    assert (found.mode, found.graphs) == (mode, had)
    assert bool(found.notes) == (had != graphs.casefold())


def test_older_releases_make_tokens_by_the_older_operator() -> None:
    assert attention_type("vllm-ascend-0.12.0rc1") == attention_type("mindie") == "PagedAttention"
    assert attention_type("vllm-ascend-0.12.0rc1", reads=True) == "FusedInferAttentionScore"
    assert attention_type("vllm-ascend-0.13.0") == attention_type("vllm-ascend") == "FusedInferAttentionScore"


def test_scheduling_ahead_makes_no_difference_that_is_known() -> None:
    for ahead in (True, False):
        found = step_mode("vllm-ascend", ahead=ahead)
        assert (found.ahead, found.mode) == (ahead, "vllm-ascend")
        assert "ahead" in str(found.notes[0])


@pytest.mark.parametrize(
    ("engine", "options", "said"),
    [
        ("vllm-ascend-0.17.3", {}, "nearest: 0.17.0rc1"),
        ("vllm-ascend-1.0.0", {}, "nearest: 0.30.0rc2"),
        ("vllm-ascend-0.5.0", {}, "nearest: 0.7.1rc1"),
        ("sglang-0.4.6", {}, "nearest: 0.5.1"),
        ("vllm-0.33.0", {}, "memory alone is planned for vllm-0.33.0"),
        ("vllm-0.33.0-h100", {}, "its steps are not timed; known: captured, vllm-ascend"),
        ("vllm", {}, "its steps are not timed; known: captured, vllm-ascend"),
        ("logical", {}, "its steps are not timed; known: captured, vllm-ascend"),
        ("megatron", {}, "megatron trains; give --phase train"),
        ("nobody", {}, "known: captured, vllm-ascend, "),
        ("vllm-ascend-", {}, "no engine is called"),
        ("vllm-ascend-wild", {}, "no engine is called"),
        ("", {}, "no engine is called"),
        ("vllm-ascend", {"graphs": "some"}, "known: none, piecewise"),
        ("vllm-ascend", {"graphs": "full", "eager": True}, "told twice"),
        ("vllm-ascend-eager", {"graphs": "full"}, "told twice"),
        ("captured", {"eager": True}, "nothing is known of captured with --enforce-eager"),
        (
            "mindie",
            {"graphs": "piecewise"},
            "mode piecewise; leave it out: what is known of it captures full",
        ),
        ("mindie", {"ahead": True}, "nothing is known of mindie with --async-scheduling"),
    ],
)
def test_what_is_not_known_is_refused(engine: str, options: dict[str, str | bool], said: str) -> None:
    graphs, eager, ahead = options.get("graphs"), options.get("eager"), options.get("ahead")
    with pytest.raises(InputError) as error:
        step_mode(
            engine,
            graphs=None if graphs is None else str(graphs),
            eager=bool(eager),
            ahead=None if ahead is None else bool(ahead),
        )
    assert said in str(error.value)


def step_mode_error(name: str) -> str:
    with pytest.raises(InputError) as error:
        step_mode(name)
    return str(error.value)


def test_whoever_trains_is_told_how_to_ask_for_it() -> None:
    trains = set(table("memplan.serving", "eager.json")["engines"]) - {CAPTURED}
    elsewhere = table("memplan.engines", "releases.json")["elsewhere"]
    assert trains == {name for name, what in elsewhere.items() if what == "training"}
    assert all("--phase train" in step_mode_error(name) for name in trains)


def test_whoever_memory_is_planned_for_serves_with_the_host_of_its_release() -> None:
    """Went wrong once: every release of vllm-ascend was timed as the newest one."""
    hosts = {item.name: host_of(item.name) for item in engines()}
    assert hosts["vllm-ascend-0.12.0-a2"] == "vllm-ascend-0.12.0"
    assert engine_host(hosts["vllm-ascend-0.12.0-a2"]) == engine_host("vllm-ascend-piecewise")
    assert engine_host(hosts["vllm-ascend-0.30.0rc2-a5"]) == engine_host(DEFAULT_ENGINE)
    hidden = {name for name, host in hosts.items() if host == CAPTURED}
    assert (
        hidden
        == {name for name in hosts if not engine_is_known(name)}
        == {name for name in hosts if name == "logical" or (name.startswith("vllm-") and "ascend" not in name)}
    )
    untimed = {name: step_mode_error(name) for name in hidden}
    assert all("memory alone" in error and "known: " in error for error in untimed.values())
    assert host_of("vllm-ascend-0.23.0.post1-a2", eager=True) == "vllm-ascend-0.23.0.post1-eager"
    assert host_of("vllm-ascend-0.23.0.post1-a2", "v0.9.1") == "vllm-ascend-0.9.1"
