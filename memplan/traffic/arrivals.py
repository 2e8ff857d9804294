"""
Requests as a file of traffic lists them, one JSON object a line: when, how long, and the hashes of the prompt's blocks.

The form is that of Mooncake's public traces (kvcache-ai/Mooncake README of FAST25-release/traces): `timestamp` in
milliseconds, `input_length` and `output_length` in tokens, and `hash_ids`, one for every 512 tokens of the prompt.
Equal ids mean equal blocks with equal blocks before them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError

MOONCAKE_BLOCK = 512
"""Tokens of a block in Mooncake's traces."""
_LONGEST_LINE = 4 * 2**20
_MOST_TOKENS = 2**27
_FIELDS = "timestamp, input_length, output_length and hash_ids"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: nanoseconds of its arrival, tokens of its prompt and its answer, hashes of the prompt's blocks."""

    time_ns: int
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]


def read_arrivals(path: Path, block: int = MOONCAKE_BLOCK) -> Iterator[Arrival]:
    """
    The requests of `path` in their order, read line by line; blocks have `block` tokens.

    Raises `InputError` naming file and line for what is no such request, and for a file without any.
    """
    found = False
    try:
        with path.open("r", encoding="utf-8") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise InputError(f"{path}, line {number}: longer than {_LONGEST_LINE >> 20} MiB")
                if line.strip():
                    yield _arrival(line, block, f"{path}, line {number}")
                    found = True
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if not found:
        raise InputError(f"{path} has no requests", remedy=f"give a line for each, with {_FIELDS}")


def _arrival(line: str, block: int, place: str) -> Arrival:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place}: no JSON object", remedy=f"each line has {_FIELDS}") from None
    if not isinstance(told, dict):
        raise InputError(f"{place}: no JSON object", remedy=f"each line has {_FIELDS}")
    time = told.get("timestamp")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e15:
        raise InputError(f"{place}: timestamp {time!r:.40} is no time in milliseconds")
    tokens, made = _count(told, "input_length", place), _count(told, "output_length", place)
    if not tokens:
        raise InputError(f"{place}: a prompt of no tokens")
    hashes = told.get("hash_ids", [])
    if not isinstance(hashes, list) or not set(map(type, hashes)) <= {int}:
        raise InputError(f"{place}: hash_ids is no list of whole numbers")
    if hashes and len(hashes) not in (tokens // block, -(-tokens // block)):
        raise InputError(
            f"{place}: {len(hashes)} hash_ids for {tokens:,} tokens, {-(-tokens // block):,} blocks of {block}",
            remedy="give the tokens of a block with --trace-block",
        )
    return Arrival(round(time * 1e6), tokens, made, tuple(hashes))


def _count(told: dict[str, Any], name: str, place: str) -> int:
    value = told.get(name)
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
        raise InputError(f"{place}: {name} {value!r:.40} is no number of tokens")
    return value
