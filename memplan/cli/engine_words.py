"""The engines' own command lines and counts such as `32k`, as the words that commands here take."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmM])")
_SCALES = {"k": 1000, "K": 1024, "m": 1000**2, "M": 1024**2}
_OPTION = re.compile(r"-(?!\d)")
_SHELL = re.compile(r"\$[\w{(]")
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlainWords:
    """
    The `words` of a command, and options of an engine's command line that were `left` out for want of a meaning for
    what it is `about`.
    """

    words: tuple[str, ...]
    left: tuple[str, ...] = ()
    about: str = ""


def plain_words(words: Sequence[str]) -> PlainWords:
    """
    `words` with an engine's command line behind `--` and counts with a letter written out.

    Raises `InputError` for a line that can't be read as such.
    """
    if not words or not any(word == "--" or _COUNT.fullmatch(_value(word)) for word in words):
        return PlainWords(tuple(words))
    known = table("memplan.cli", "engine_words.json")
    own, left, about = list(words), tuple[str, ...](), ""
    if "--" in own and own[0] in known["commands"]:
        place, rules = own.index("--"), known["commands"][own[0]]
        beside, about = own[1:place], rules["about"]
        given, left = _served(own[0], own[place + 1 :], _with_objects(known, rules.get("objects", {})))
        if "renamed" in rules:
            given, left = _asked_of(own[0], given, left, beside, rules)
        # What is given beside the engine's line wins over it.
        own = [own[0], *given, *beside]
    return PlainWords(tuple(_counted(own, known["counts"])), left, about)


def _with_objects(known: Mapping[str, Any], more: Mapping[str, Mapping[str, str]]) -> Mapping[str, Any]:
    """`known` with `more` fields of options that are documents."""
    fields = {name: {**known["objects"].get(name, {}), **more.get(name, {})} for name in (*known["objects"], *more)}
    return {**known, "objects": fields}


def _asked_of(
    command: str, given: Sequence[str], left: Sequence[str], beside: Sequence[str], rules: Mapping[str, Any]
) -> tuple[list[str], tuple[str, ...]]:
    """
    The words of an engine's line, which stand for memory, as those of `command`, and what is left out of them.

    Raises `InputError` for what bears on what is asked but can't be told it.
    """
    requests = any(word.partition("=")[0] in rules["asks_of_requests"] for word in beside)
    found, more = [given[0]], list(left)
    at = 1
    while at < len(given):
        name, values = given[at], given[at + 1 : at + 2]
        values = [] if values and values[0].startswith("--") else values
        at += 1 + len(values)
        if name in rules["values"] and (values or ["True"])[0] in rules["values"][name]:
            found += rules["values"][name][(values or ["True"])[0]]
        elif requests and name in rules["of_requests"] and values != rules["refused_values"].get(name):
            found += [name, *values]
        elif name in rules["said"]:
            more.append(rules["said"][name])
        elif name in rules["refused"]:
            raise InputError(f"{command} can't be told {' '.join([name, *values]):.60}", remedy=rules["refused"][name])
        elif name not in rules["of_memory"]:
            found += [rules["renamed"].get(name, name), *values]
    for item in more:
        name = item.partition(" ")[0]
        if name in rules["refused"]:
            raise InputError(f"{command} can't be told {item:.60}", remedy=rules["refused"][name])
    return found, tuple(dict.fromkeys(more))


def _value(word: str) -> str:
    return word.rpartition("=")[2]


def _counted(words: Sequence[str], counts: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        name, equals, value = word.partition("=")
        if name in counts and equals:
            yield f"{name}={_count(value)}"
        else:
            yield _count(word) if before in counts else word
        before = word


def counted_value(flag: str, value: str) -> str:
    """The value of the option `flag`, a count with a letter written out if it takes one."""
    return _count(value) if flag in table("memplan.cli", "engine_words.json")["counts"] else value


def _count(text: str) -> str:
    """`32k` as 32000 and `32K` as 32768, as vLLM reads them; other texts as they are."""
    match = _COUNT.fullmatch(text)
    if match is None:
        return text
    number = float(match[1]) * _SCALES[match[2]]
    if not number.is_integer():
        raise InputError(f"{text!r:.40} is no whole number", remedy="write it out")
    return str(int(number))


def _served(command: str, line: Sequence[str], known: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...]]:
    """The words for the command line of an engine, and its options that mean nothing here."""
    words = shlex.split(line[0]) if len(line) == 1 else list(line)
    found: list[str] = []
    while words and (match := _VARIABLE.fullmatch(words[0])):
        option = known["variables"].get(match[1])
        found += [] if option is None else [option, match[2]]
        found += known["variable_values"].get(match[1], {}).get(match[2], ())
        words = words[1:]
    start = next((item for item in known["starts"] if _begins(words, item["words"]) is not None), None)
    if start is None:
        raise InputError(
            f"{' '.join(words)[:60]!r} starts no engine that is known",
            remedy=f"write {command} -- vllm serve MODEL --option ...",
        )
    words = words[_begins(words, start["words"]) or 0 :]
    models: list[str] = []
    left: list[str] = []
    behind: list[str] = []  # values of options without a meaning: a flag that is not known takes MODEL for its value
    open_list = False
    drafted: Mapping[str, Any] | None = None
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        at += 1
        if not _OPTION.match(name):
            # Further values of an option that takes several, such as --served-model-name.
            if not (models and open_list):
                models.append(_told(name + equals + value))
            continue
        name = "--" + name[2:].replace("_", "-") if name.startswith("--") else name
        outer, _, field = name.partition(".")
        option = known["options"].get(name) or known["objects"].get(outer, {}).get(field.replace("-", "_"))
        if not equals and name not in known["flags"] and at < len(words) and not _OPTION.match(words[at]):
            value = words[at]
            at += 1
        open_list = not equals and bool(value)
        if name in known["unplanned"] and value not in ("1", ""):
            raise InputError(f"{name} is not planned: {known['unplanned'][name]}", remedy="leave it out")
        if name in known["model"]:
            models.append(value)
        elif name in known["objects"]:
            document = _document(name, value)
            drafts = _drafts(document, known)
            if drafts is None:
                method = str(document.get("method", "a draft model"))
                missing = (
                    ", no config.json at hand" if "method" not in document or method in known["model_drafts"] else ""
                )
                left.append(f"{name} ({method:.40}{missing})")
                continue
            fields = known["objects"][name]
            found += drafts
            drafted = document if name == known["drafts"] and not drafts else drafted
            found += [
                word for field, option in fields.items() if field in document for word in (option, str(document[field]))
            ]
        elif value in known["values"].get(name, {}):
            found += known["values"][name][value]
        elif name in known["usual_values"] and value not in known["usual_values"][name]:
            left.append(f"{name} {value:.40}")
        elif option is not None:
            found += [option] if name in known["flags"] else [option, _told(value)]
        elif name not in known["no_bearing"] and name not in known["unplanned"]:
            left.append(name)
            behind += [value] if value and not equals else []
    if len(models) != 1 or not Path(models[0]).exists():
        models = [value for value in (*models, *behind) if Path(value, "config.json").is_file()] or models
    if len(models) != 1:
        raise InputError(f"the engine's line names {len(models)} models, not one", remedy="write vllm serve MODEL")
    if not Path(models[0]).exists():
        raise InputError(
            f"no file or folder is called {models[0]!r:.80}", remedy="give the folder of its config.json for MODEL"
        )
    found += [] if drafted is None else _own_drafts(Path(models[0]), drafted, known["draft_counts"])
    if known["attention_data"] in words and start["engine"] == "sglang":
        found = _attention_ranks(found, known["attention_data"])
        left = [name for name in left if name != known["attention_data"]]
    return [models[0], "--engine", start["engine"], *found], tuple(dict.fromkeys(left))


def _own_drafts(model: Path, document: Mapping[str, Any], counts: Sequence[str]) -> list[str]:
    """
    The words for what the served `model` drafts by layers of its own: how many tokens, where the line leaves it open
    (vllm 0.33.0 config/speculative.py `n_predict`). Raises `InputError` where it has no such layers.
    """
    from memplan.models.config import config_document

    config = config_document(model / "config.json" if model.is_dir() else model)
    inner = config.get("text_config")
    fields = {**config, **inner} if isinstance(inner, Mapping) else config
    sparks = document.get("method") == "dspark"
    if sparks and document.get("model") is not None:
        raise InputError("drafts of a DSpark model of its own are not planned", remedy="leave --speculative-config out")
    if sparks != ("dspark_block_size" in fields):
        said = "has no stages of DSpark to draft with" if sparks else "drafts by its stages of DSpark alone"
        raise InputError(f"{model} {said}", remedy='say "method": "dspark" only where a config has dspark_block_size')
    if "num_speculative_tokens" in document:
        return []
    names = ("dspark_block_size",) if sparks else counts
    count = next((fields[name] for name in names if isinstance(fields.get(name), int)), None)
    if not count:
        raise InputError("--speculative-config does not say how many tokens", remedy="add num_speculative_tokens")
    return ["--num-speculative-tokens", str(count)]


def _attention_ranks(found: Sequence[str], flag: str) -> list[str]:
    """
    The words for ranks of attention in data parallelism, which are some of those of tensor parallelism, while experts
    are spread over all (sglang 0.5.23 srt/layers/dp_attention.py).
    """
    sizes = {"--tp": "1", "--dp": "1", "--ep": "1"}
    others: list[str] = []
    words = iter(found)
    for word in words:
        if word in sizes:
            sizes[word] = next(words, "")
        else:
            others.append(word)
    if not (sizes["--tp"].isdecimal() and sizes["--dp"].isdecimal()):
        return list(found)
    tensor, data = int(sizes["--tp"]), int(sizes["--dp"])
    if not data or tensor % data:
        raise InputError(f"{flag}: {data} ranks of data parallelism do not divide {tensor} of tensor parallelism")
    return [*others, "--tp", str(tensor // data), "--dp", str(data), "--ep", str(tensor)]


def _told(word: str) -> str:
    """`word`, unless a shell would put something else in its place."""
    if _SHELL.search(word):
        raise InputError(f"{word!r:.60} stands for something that only the shell knows", remedy="write it out")
    return word


def _begins(words: Sequence[str], start: Sequence[str]) -> int | None:
    """Behind which word the engine's options begin, if the line starts it so: `python -m` may stand before."""
    for place in range(min(4, len(words))):
        if tuple(Path(word).name for word in words[place : place + len(start)]) == tuple(start):
            return place + len(start)
    return None


def _document(name: str, value: str) -> Mapping[str, Any]:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        raise InputError(f"{name} {value!r:.60} is no JSON") from None
    return document if isinstance(document, Mapping) else {}


def _drafts(document: Mapping[str, Any], known: Mapping[str, Any]) -> list[str] | None:
    """
    The words that say who drafts, none for the served model's own layers; `None` where it can't be planned: in a way
    that is not known, or by a model whose config is not at hand.
    """
    method, model = document.get("method"), document.get("model")
    if method is None:
        if model is None:
            return []
        # As the engine guesses it from the name (vllm 0.33.0 config/speculative.py).
        method = next((name for name in ("eagle3", "eagle") if name in str(model).lower()), "draft_model")
    if any(fnmatch.fnmatchcase(str(method), pattern) for pattern in known["own_drafts"]):
        return []
    if method in known["model_drafts"] and model is not None and Path(str(model)).exists():
        return ["--draft-method", str(method), "--draft-model", str(model)]
    return ["--draft-method", str(method)] if method in known["looked_up_drafts"] else None
