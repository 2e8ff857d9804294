"""Requests read from lines of JSON, and hits in tiers of a prefix cache against an account kept by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.traffic import Arrival, CacheTier, PrefixHits, prefix_hits, read_arrivals

BLOCK = 512


def arrival(*blocks: int, tail: int = 0, at: int = 0) -> Arrival:
    """A prompt of whole blocks and `tail` tokens."""
    return Arrival(at, len(blocks) * BLOCK + tail, 10, blocks)


def hits(found: PrefixHits) -> int:
    """Tokens found in any tier."""
    return sum(item.tokens for item in found.tiers)


def test_a_repeated_prompt_is_found_but_for_its_last_block() -> None:
    found = prefix_hits([arrival(1, 2, 3), arrival(1, 2, 3)], [CacheTier("hbm", None)])
    assert hits(found) == 2 * BLOCK  # the third block holds the last token, which is computed
    assert hits(prefix_hits([arrival(1, 2, 3), arrival(1, 2, 3, tail=5)], [CacheTier("hbm", None)])) == 3 * BLOCK


def test_a_gap_ends_the_run() -> None:
    found = prefix_hits([arrival(1, 2, 3), arrival(1, 9, 3, tail=1)], [CacheTier("hbm", None)])
    assert hits(found) == BLOCK


def test_what_leaves_a_tier_is_found_in_the_next() -> None:
    tiers = [CacheTier("hbm", 2 * BLOCK), CacheTier("dram", 2 * BLOCK)]
    asked = [arrival(1, 2), arrival(3, 4), arrival(1, 2, tail=1)]
    found = prefix_hits(asked, tiers)
    assert [item.tokens for item in found.tiers] == [0, 2 * BLOCK]
    assert hits(prefix_hits(asked, tiers[:1])) == 0


def test_later_blocks_of_a_prompt_go_first() -> None:
    found = prefix_hits([arrival(1, 2, 3), arrival(1, 2, 3, tail=1)], [CacheTier("hbm", 2 * BLOCK)])
    assert hits(found) == 2 * BLOCK


def test_hits_are_whole_units_of_the_engine() -> None:
    asked = [arrival(1, 2, 3), arrival(1, 2, 3, tail=1)]
    assert hits(prefix_hits(asked, [CacheTier("hbm", None)], granularity=1024)) == 1024
    assert hits(prefix_hits(asked, [CacheTier("hbm", None)], granularity=16384)) == 0


def test_tiers_hold_what_one_list_by_last_use_holds() -> None:
    """The account: blocks sorted by last use, a hit's tier by its place in the list."""
    draw = random.Random(5)
    shared = [tuple(range(1000 * k, 1000 * k + 12)) for k in range(30)]
    asked = []
    for number in range(600):
        base = shared[draw.randrange(30)][: draw.randrange(1, 12)]
        asked.append(arrival(*base, *(100_000 + 20 * number + k for k in range(draw.randrange(3))), tail=1))
    rooms = [40, 60, 120]
    tiers = [CacheTier(f"t{number}", room * BLOCK) for number, room in enumerate(rooms)]
    used: list[int] = []
    expected = [0, 0, 0]
    for item in asked:
        for one in item.blocks:
            if one not in used:
                break
            place = used[::-1].index(one)
            if place >= sum(rooms):
                break
            expected[0 if place < 40 else 1 if place < 100 else 2] += BLOCK
        for one in reversed(item.blocks):
            if one in used:
                used.remove(one)
            used.append(one)
        used = used[-sum(rooms) :]
    found = prefix_hits(asked, tiers)
    assert [item.tokens for item in found.tiers] == expected
    assert all(expected)


def test_lines_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    rows = [
        {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": list(range(14))},
        {"timestamp": 30535.5, "input_length": 600, "output_length": 0},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n", "utf-8")
    one, two = read_arrivals(path)
    assert (one.time_ns, one.input_tokens, one.output_tokens, len(one.blocks)) == (27_482_000_000, 6955, 52, 14)
    assert (two.time_ns, two.blocks) == (30_535_500_000, ())
    found = prefix_hits(read_arrivals(path), [])
    assert found.rate == pytest.approx(1 / 3.0535)
    assert (found.unmarked, found.computed, found.made) == (1, {640: 1, 6976: 1}, {0: 1, 64: 1})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1: no JSON object"),
        ("[]", "no JSON object"),
        ('{"timestamp": 1, "input_length": -4, "output_length": 1}', "input_length -4"),
        ('{"timestamp": "x", "input_length": 4, "output_length": 1}', "timestamp 'x'"),
        ('{"timestamp": 1, "input_length": 0, "output_length": 1}', "no tokens"),
        ('{"timestamp": 1, "input_length": 9, "output_length": true}', "output_length True"),
        ('{"timestamp": 1, "input_length": 1024, "output_length": 1, "hash_ids": [1, 2, 3]}', "3 hash_ids for 1,024"),
        ('{"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": ["a"]}', "whole numbers"),
        ("\n", "no requests"),
    ],
)
def test_what_is_no_request_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_text(line, "utf-8")
    with pytest.raises(InputError, match=words):
        list(read_arrivals(path))


def test_memory_follows_the_tiers(tmp_path: Path) -> None:
    """Traffic of ever new blocks leaves no more behind than the tiers have room for."""
    import tracemalloc

    def endless() -> list[Arrival]:
        return [arrival(*range(8 * number, 8 * number + 8)) for number in range(5000)]

    asked = endless()
    tracemalloc.start()
    prefix_hits(asked, [CacheTier("hbm", 100 * BLOCK)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000
