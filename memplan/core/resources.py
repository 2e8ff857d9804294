"""Tables beside code: the JSON files that ship inside memplan's packages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError, reason


@cache
def table(package: str, name: str) -> Mapping[str, Any]:
    """
    The JSON object in file `name` of `package` (`memplan.cost`, `machine.json`), read once and shared: don't change it.

    Raises `InputError` naming the file and the line for one that is missing, is no JSON object or gives a key twice.
    """
    file = resources.files(package).joinpath(*name.split("/"))

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for index, key in enumerate(keys) if key in keys[:index])
            raise InputError("gives {!r:.60} twice", twice, path=str(file), remedy="keep one of them")
        return found

    try:
        document = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=str(file), remedy="install memplan again") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError("is no JSON: {}", error.msg, path=str(file), place=place, remedy="mend that line") from None
    except UnicodeDecodeError:
        raise InputError("is no UTF-8 text", path=str(file), remedy="save it as UTF-8") from None
    if not isinstance(document, dict):
        raise InputError("holds no object", path=str(file), remedy="begin it with a brace")
    return MappingProxyType(document)
