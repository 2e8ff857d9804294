"""Which family an op or kernel type belongs to: one name for what frameworks and devices call by many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate

from memplan.core.resources import table
from memplan.graph.op_names import spelled_family

UNKNOWN_FAMILY = 0
"""The number of the family of types that no table knows."""
_SHORTEST_PART, _SHORTEST_INSIDE = 3, 4
"""
A family's name inside a longer one counts from these lengths on, as words or humps of it and inside one: `mm` is not
found in `comm`, nor `tan` in `InputAnd`.
"""


_SIGNS = {"sent": 1, "received": -1, "gradient_of_input": 1, "gradient_of_weight": -1}
"""The direction of the types of each list of `directions`."""


@dataclass(frozen=True, slots=True)
class FamilyTable:
    """
    Families by number (0 is the unknown one), and the family of every known type.

    `matrix_products` multiply matrices, one or many; `heavy` ones take most of a step's time; `apart` are those
    collectives that run beside everything else; `movers` move data and compute nothing, those `keeping_size` make
    as much as the largest thing they read. `direction` is 1 and -1 for types that are each other's opposites and may
    have the same sizes: what sends and what receives, the gradient of what a convolution reads and that of its weight.
    One that does both has none. `together` are beginnings of types that run ops of several families without telling so,
    the one that takes most time first. `only_whole` are types that are no part of longer ones, as `conv` of `convert`.
    """

    names: tuple[str, ...]
    of_type: Mapping[str, int]
    matrix_products: frozenset[int]
    heavy: frozenset[int]
    collectives: frozenset[int]
    apart: frozenset[int]
    movers: frozenset[int]
    keeping_size: frozenset[int]
    direction: Mapping[str, int]
    together: Mapping[str, tuple[int, ...]]
    only_whole: frozenset[str]

    def number(self, name: str) -> int:
        """The number of family `name`; raises `ValueError` for a name that is none."""
        return self.names.index(name)


@cache
def family_table() -> FamilyTable:
    """The families of `families.json`."""
    document = table("memplan.align", "families.json")
    names = ("unknown", *document["families"])
    of_type = {
        spelled_family(type_): number
        for number, name in enumerate(names)
        if number
        for type_ in document["families"][name]
    }

    def numbers(key: str) -> frozenset[int]:
        return frozenset(names.index(name) for name in document[key])

    return FamilyTable(
        names,
        of_type,
        numbers("matrix_products"),
        numbers("heavy"),
        numbers("collectives"),
        numbers("apart"),
        numbers("movers"),
        numbers("keeping_size"),
        {type_: sign for key, sign in _SIGNS.items() for type_ in document["directions"][key]},
        {type_: tuple(map(names.index, of)) for type_, of in document["together"].items()},
        frozenset(document["only_whole"]),
    )


@lru_cache(maxsize=1 << 14)
def families_of(type_: str, name: str = "") -> tuple[int, ...]:
    """
    The families that a kernel's type tells, the main one first; of the name where the type tells none.

    `AddRmsNorm` and `FusionOp_Conv2D_Relu` tell several: they run several ops at once. Nothing known: `(0,)`.
    """
    for text in (type_, name):
        found = _families(text)
        if found:
            return found
    return (UNKNOWN_FAMILY,)


def types_of_family(types: Iterable[str], family: int) -> frozenset[str]:
    """Those of `types` whose main family that is; each is looked up once, however often it comes."""
    return frozenset(type_ for type_ in frozenset(types) if families_of(type_)[0] == family)


@lru_cache(maxsize=1 << 14)
def direction_of(type_: str, name: str = "") -> int:
    """The direction of a type, or of a name where the type tells no family; 0 where it tells none, or both."""
    known = family_table().direction
    text = type_ if _families(type_) else name
    words = [spelled_family(word) for word in re.split(r"[_:/\s.-]+", text)]
    found = {known[word] for word in words if word in known}
    return found.pop() if len(found) == 1 else 0


def unknown_type(type_: str, name: str = "") -> str:
    """
    What a type of no family is called, however it is spelled; empty where it is of one, or tells nothing.

    Ops and kernels of one such name do the same, whatever that is.
    """
    if families_of(type_, name) != (UNKNOWN_FAMILY,):
        return ""
    return next((spelled_family(text) for text in (_type_in(type_), _type_in(name)) if text), "")


def _type_in(text: str) -> str:
    """The type in a name of an op or kernel; empty where it says no more than what it runs on."""
    text = text.strip()
    if text.upper() in (
        "",
        "N/A",
        "AI_CORE",
        "AI_VECTOR_CORE",
        "MIX_AIC",
        "MIX_AIV",
        "AI_CPU",
        "COMMUNICATION",
        "HCCL",
    ):
        return ""
    if "/" in text:
        text = text.rpartition("/")[2] if re.search(r"-op\d+$", text) or "::" not in text else text
    return re.sub(r"-op\d+.*$", "", text)


def _families(text: str) -> tuple[int, ...]:
    text = _type_in(text)
    if not text:
        return ()
    known, stem = family_table(), spelled_family(text)
    for begin, several in known.together.items():
        if stem.startswith(begin):
            return several
    pieces = [text, *reversed(re.split(r"[_:\s.]+", text))] if "_" in text or ":" in text else [text]
    whole = known.of_type.get(stem)
    if whole is None and "::" in text:
        whole = known.of_type.get(spelled_family(text.rpartition("::")[2]))
    found = [whole] if whole is not None else []
    if not found and text.lower().startswith(("hcom", "lccl")):
        kind = re.match(r"[a-z]+_?([A-Za-z]+)", text)
        number = None if kind is None else known.of_type.get(spelled_family(kind[1]))
        return () if number is None else (number,)
    words = text == text.lower()  # `_rms_norm_kernel` is one name
    if not found and not words:
        # The device kernel stands last: aclnnMatmul_MatMulV3Common_MatMulV3.
        found = _of_pieces(pieces)
        if text.startswith("aclnn"):
            found = found[:1]
    for number in _inside(stem, *_borders(text, stem)):
        if number not in found:
            found.append(number)
    if not found and words:
        found = _of_pieces(pieces)
    # What takes its time is what it is, and what computes, not what moves.
    found.sort(key=lambda number: (number not in known.heavy, number in known.movers))
    return tuple(found)


def _of_pieces(pieces: Sequence[str]) -> list[int]:
    """Families of the pieces of a type but the first, each once."""
    found = [family_table().of_type.get(spelled_family(piece)) for piece in pieces[1:]]
    return list(dict.fromkeys(number for number in found if number is not None))


_WORDS = re.compile(r"[^A-Za-z0-9]+")
_HUMPS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def _borders(text: str, stem: str) -> tuple[frozenset[int], frozenset[int]]:
    """Places in `stem` between words of `text`, and between those and humps; none where it is spelled otherwise."""
    whole = "".join(_WORDS.split(text)).casefold().find(stem)
    if whole < 0:
        return frozenset(), frozenset()
    ends = [accumulate((len(word) for word in each.split(text)), initial=-whole) for each in (_WORDS, _HUMPS)]
    return frozenset(ends[0]), frozenset(ends[1])


@lru_cache(maxsize=1 << 14)
def _inside(stem: str, words: frozenset[int], humps: frozenset[int]) -> tuple[int, ...]:
    """
    Families whose types stand one behind the other in `stem`, longest first at every place.

    A type is inside one word or of whole ones, to the next hump: `FusionOp_Add` holds no `pad`, but
    `reduce_scatterAicpuKernel` holds `reducescatter`.
    """
    known, whole = family_table().of_type, family_table().only_whole
    if stem in known:
        return ()
    found: list[int] = []
    place = 0
    while place < len(stem):
        longest = next(
            (
                end
                for end in range(len(stem), place + _SHORTEST_PART - 1, -1)
                if stem[place:end] in known
                and stem[place:end] not in whole
                and (not any(place < border < end for border in words) or {place, end} <= humps)
                and (end - place >= _SHORTEST_INSIDE or not humps or {place, end} <= humps)
            ),
            None,
        )
        if longest is None:
            place += 1
            continue
        number = known[stem[place:longest]]
        if number not in found:
            found.append(number)
        place = longest
    return tuple(found)
