"""A model's config.json as its shape."""

from dataclasses import replace

from kerf.sizing.class_defaults import filled
from kerf.sizing.config import Config, parse_config
from kerf.sizing.decoder import decoder_shape
from kerf.sizing.encoders import ENCODERS
from kerf.sizing.families import ALIASES, DECIDES, FAMILIES, Family
from kerf.sizing.shape import Shape
from kerf.sizing.towers import TOWERS
from kerf.sizing.unsized import missing_of, not_served
from kerf.wire.errors import WireError

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Keys of the text part of a multi-modal config."""


TOWER_PARTS = ("vision_config", "audio_config", "speech_config", "mm_vision_tower")
"""Keys of a config that say that the model has a tower, even where the text part is not nested."""


def read_shape(document: object) -> Shape:
    """The shape of a model. Raises WireError that names the field, or the family that is not known."""
    top = parse_config(document)
    kind = top.text("model_type")
    if reason := not_served(top):
        raise WireError("config.json", kind or None, reason)
    if kind in ENCODERS:
        return ENCODERS[kind](top, kind)
    text = text_part(top)
    name, family = family_of(top, text)
    shape = decoder_shape(_tied_from(top, text), name, family)
    if text is top and kind not in TOWERS and not top.has(*TOWER_PARTS):
        return replace(shape, task=_task(top))
    if kind not in TOWERS and (reason := missing_of(kind)):
        raise WireError("model_type", kind, f"this family is not sized yet: {reason}")
    if kind not in TOWERS:
        fix = f"this multi-modal family is not known; known are {', '.join(sorted(TOWERS))}"
        raise WireError("model_type", kind, fix)
    key, make = TOWERS[kind]
    tower = top.part(key)
    parts = tuple(make(tower or Config({}, key), top, shape.hidden))
    return replace(shape, towers=parts, task="speech" if key == "audio_config" else "vision")


def text_part(top: Config) -> Config:
    """The config of the text decoder: nested, or the whole file. Raises WireError."""
    if top.has("num_hidden_layers", "n_layer", "num_layers"):
        return top
    for key in TEXT_PARTS:
        part = top.part(key)
        if part is not None:
            return filled(top, part)
    return top


def family_of(top: Config, text: Config) -> tuple[str, Family]:
    """The name and the rules of a text decoder's family. Raises WireError where it is not known."""
    outer = top.text("model_type")
    name = outer if outer in DECIDES else text.text("model_type") or outer
    if not name:
        raise WireError("model_type", None, "write the model's family, for example llama")
    found = FAMILIES.get(name) or FAMILIES.get(ALIASES.get(name, ""))
    if found is None and (reason := missing_of(name) or missing_of(top.text("model_type"))):
        raise WireError(text.field("model_type"), name, f"this family is not sized yet: {reason}")
    if found is None:
        fix = f"this family is not known, so its weights would be a guess; known are {', '.join(sorted(FAMILIES))}"
        raise WireError(text.field("model_type"), name, fix)
    return name if name in FAMILIES else ALIASES[name], found


def _tied_from(top: Config, text: Config) -> Config:
    """Multi-modal files often write tie_word_embeddings at the top alone."""
    if text is top or text.has("tie_word_embeddings") or not top.has("tie_word_embeddings"):
        return text
    return Config({**text.values, "tie_word_embeddings": top.values["tie_word_embeddings"]}, text.where)


def _task(top: Config) -> str:
    words = top.words("architectures") or ()
    if any(word.endswith("ForSequenceClassification") for word in words):
        return "rerank"
    return "embedding" if any(word.endswith("Model") for word in words) else "text"
