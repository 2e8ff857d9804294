"""`load_config`: a published `config.json` to the `ModelConfig` it describes."""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, reason
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.models.architecture import ModelConfig
from memplan.models.families import ARCHITECTURES, BUILDERS, WRAPPERS
from memplan.models.fields import Fields
from memplan.models.lengths import read_length, read_tokenizer_length
from memplan.models.modelslim import described_scheme
from memplan.models.quantization import read_quantization
from memplan.models.rotary import read_rotary
from memplan.models.stored_weights import read_stored_weights
from memplan.models.vision import read_vision

_logger = logging.getLogger(__name__)

_MOST_BYTES = 16 * 2**20
"""A `config.json` is a few kilobytes; more than this is something else."""


def supported_families() -> tuple[str, ...]:
    """Every `model_type` that can be read."""
    return tuple(sorted({*BUILDERS, *WRAPPERS}))


def load_config(source: str | Path | Mapping[str, Any], *, family: str | None = None) -> ModelConfig:
    """
    The model that `source`, a `config.json` (or the folder it is in) or its parsed content, describes.

    `family` reads it as one of that family, whatever its `model_type` says: to try one that is near.

    Raises `InputError` naming the file, the field and the nearest supported family.
    """
    if family is not None and family not in supported_families():
        near = difflib.get_close_matches(family, supported_families(), n=1, cutoff=0)
        raise InputError(
            "{!r:.60} is no family that is known", family, remedy=Sentence("the nearest is {!r}", (near[0],))
        )
    if isinstance(source, Mapping):
        return _read(_as_family(source, family), None, "model")
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(
                "there is no config.json in this folder", path=path, remedy="name a model's config.json or its folder"
            )
        path = path / "config.json"
    name = path.parent.name if path.name == "config.json" else path.stem
    model = _read(_as_family(config_document(path), family), str(path), name or "model")
    _logger.info("reading %s: a model of %s, %d layers", path, model.family, len(model.layers))
    if path.name != "config.json":
        return model
    model = replace(model, quantization=described_scheme(path.parent) or model.quantization)
    if model.published_length is not None:
        tokenizer = read_tokenizer_length(path.parent)
        model = replace(model, published_length=replace(model.published_length, tokenizer=tokenizer))
    return replace(model, stored=read_stored_weights(path.parent))


def _as_family(document: Mapping[str, Any], family: str | None) -> Mapping[str, Any]:
    """The file as if it were of `family`, which counts for the decoder's object where there is one."""
    if family is None:
        return document
    inner = document.get("text_config")
    if family in BUILDERS and isinstance(inner, Mapping):
        return {**document, **inner, "model_type": family}
    return {**document, "model_type": family}


def config_document(path: Path) -> Mapping[str, Any]:
    """The object that the file `path` holds; raises `InputError` for one that is no `config.json`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise InputError("this is too large for a config.json", path=path)
        document = json.loads(data)
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from error
    except (ValueError, RecursionError):
        raise InputError("this is not a config.json: it isn't JSON", path=path) from None
    if not isinstance(document, Mapping):
        raise InputError("this is not a config.json: it holds no object", path=path)
    return document


def _defaults() -> Mapping[str, Any]:
    return table("memplan.models.families", "defaults.json")


def _model_type(document: Mapping[str, Any], path: str | None) -> str:
    model_type = document.get("model_type")
    if isinstance(model_type, str) and (model_type in BUILDERS or model_type in WRAPPERS):
        return model_type
    named = document.get("architectures")
    for name in named if isinstance(named, list) else ():
        if isinstance(name, str) and name in ARCHITECTURES:
            return ARCHITECTURES[name]
    if not isinstance(model_type, str) or not model_type:
        raise InputError(
            "is missing; it says which family the model is of",
            path=path,
            place=Sentence("field {}", ("model_type",)),
            remedy="take the file as the model's publisher gives it",
        )
    why = _refused(model_type, named if isinstance(named, list) else [])
    near = _near(model_type, document)
    raise InputError(
        Sentence("{!r:.60} is not supported; the nearest supported family is {!r}", (model_type, near))
        if why is None
        else Sentence("{!r:.60} is not supported: {}; the nearest supported family is {!r}", (model_type, why, near)),
        path=path,
        place=Sentence("field {}", ("model_type",)),
        remedy="memplan kv --as FAMILY reads it as that one",
    )


def _refused(model_type: str, architectures: Sequence[object]) -> Sentence | None:
    """Why a model that an engine runs is not read here, as far as it is known."""
    for row in table("memplan.models.families", "refused.json")["refused"]:
        if model_type in row["model_types"] or set(row["architectures"]) & {str(name) for name in architectures}:
            return Sentence(row["reason"])
    return None


def _near(model_type: str, document: Mapping[str, Any]) -> str:
    """The family of the same name that comes nearest, else the plain one that has the same kinds of parts."""
    stem = re.match(r"[^\W\d_]*", model_type.lower())
    named = [name for name in supported_families() if stem and stem[0] and name.lower().startswith(stem[0])]
    found = difflib.get_close_matches(model_type, named, n=1, cutoff=0.5)
    if found:
        return found[0]
    inner = document.get("text_config")
    names = {*document, *(inner if isinstance(inner, Mapping) else ())}
    if "kv_lora_rank" in names:
        return "deepseek_v32" if names & {"index_topk", "index_n_heads"} else "deepseek_v3"
    if names & {"mamba_d_state", "mamba_d_conv"}:
        return "granitemoehybrid"
    if names & {"linear_num_key_heads", "linear_num_value_heads"}:
        return "qwen3_next"
    if names & {"mamba_num_heads", "ssm_state_size", "hybrid_override_pattern"}:
        return "nemotron_h"
    if names & {"n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"}:
        return "qwen3_moe"
    return "llama"


def _decoder_of(outer: Fields, wrapper: Mapping[str, Any]) -> str | None:
    """The decoder of a wrapper whose object does not say; some wrappers hold another in each version."""
    if "versions" not in wrapper:
        decoder: str | None = wrapper["decoder"]
        return decoder
    version = str(outer.values.get("version"))
    if version not in wrapper["versions"]:
        raise outer.wrong(
            "version", Sentence("{!r:.20} is not known; {} are", (version, ", ".join(wrapper["versions"])))
        )
    return str(wrapper["versions"][version])


def _names_its_own(outer_type: str, inner_type: object) -> bool:
    """
    Whether the decoder's object has the type that a configuration class has for the part of its wrapper alone, such as
    `emu3_text_model` in `emu3` (transformers 5.20.2 writes it so), and not that of a family.
    """
    if not isinstance(inner_type, str) or inner_type in BUILDERS:
        return False
    stem = re.sub(r"_text(_model)?$", "", inner_type)
    return stem != inner_type and outer_type.startswith(stem)


def _decoder_fields(outer: Fields, wrapper: Mapping[str, Any]) -> Fields:
    """The object that the decoder is described in: older files of some wrappers have its fields beside the others."""
    places = wrapper.get("at", ["text_config"])
    for place in places:
        inner = outer
        for name in place.split("."):
            if not inner.has(name):
                break
            inner = inner.within(name)
        else:
            return inner
    if outer.has("hidden_size"):
        return outer
    return outer.within(places[0].split(".")[0])


def _media_prefix(outer_type: str, fields: Fields) -> bool:
    """
    Whether an image's tokens attend to each other in both directions, as engines run the wrapper `outer_type`
    (vllm 0.33.0 transformers_utils/model_arch_config_convertor.py is_mm_prefix_lm).
    """
    rule = WRAPPERS.get(outer_type, {}).get("media_prefix")
    if rule is None or not rule:
        return rule is not None
    return bool(fields.values.get(rule["field"], rule.get("absent")) == rule["is"])


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _read(document: Mapping[str, Any], path: str | None, name: str) -> ModelConfig:
    outer_type = _model_type(document, path)
    outer = Fields(document, family=outer_type, path=path)
    inner = outer
    model_type = outer_type
    if outer_type in WRAPPERS:
        inner = _decoder_fields(outer, WRAPPERS[outer_type])
        found = inner.values if inner is not outer else {}
        decoder = _decoder_of(outer, WRAPPERS[outer_type])
        if decoder is not None and _names_its_own(outer_type, found.get("model_type")):
            found = {**found, "model_type": decoder}
        model_type = _model_type({"model_type": decoder, **found}, path)
    defaults = _defaults().get(model_type)
    fields = Fields(
        # Wrappers keep these two beside the decoder's object as often as in it.
        {key: document[key] for key in ("tie_word_embeddings", "torch_dtype", "dtype") if key in document}
        | dict(inner.values),
        family=model_type,
        path=path,
        prefix=inner.prefix,
        defaults=None if defaults is None else defaults["values"],
        defaults_source="" if defaults is None else defaults["source"],
    )
    model = BUILDERS[model_type](fields)
    vision = read_vision(outer) if outer_type in WRAPPERS else None
    notes = model.notes
    if vision is not None and vision.parameters is None:
        notes += (f"vision_config: the parameters of the vision tower {vision.model_type!r} are not known here",)
    return replace(
        model,
        name=name,
        architecture=next((str(item) for item in _listed(document.get("architectures"))), ""),
        draft_vocab=fields.count_or("draft_vocab_size", 0),
        model_type=outer_type,
        rotary=read_rotary(fields, model),
        published_length=read_length(fields),
        vision=vision,
        media_prefix=_media_prefix(outer_type, fields),
        quantization=read_quantization(fields, outer),
        origin=path or "",
        notes=notes,
    )
