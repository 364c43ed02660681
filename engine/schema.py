"""JSON Schema (2020-12) of the stored state of every event version, generated from the registry and checked in.

    python -m engine.schema            writes schemas/events/<stored name>.json
    python -m engine.schema --check    fails where a file is outdated, or an event has changed its meaning without a new version

What was released stays readable: a schema on disk is what the log of somebody holds. Hence nothing is written either while
the registry contradicts a file; a changed event takes a new stored name and an upcaster (`engine/event.py`).
"""

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import inspect as types

import engine
from engine.event import REGISTRY, UPCASTERS, Event, personal_fields

FOLDER: Final = Path(__file__).resolve().parents[1] / "schemas" / "events"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BASE: Final = "https://tocsin.example/schemas/events/"
COMMAND: Final = "python -m engine.schema"

Schema = dict[str, Any]

SEALED: Final[Schema] = {
    "description": "Personal data: nonce and AES-256-GCM ciphertext of the JSON value, under the key of the person that "
    "`x-subject` names, bound to stream, version and field; `x-content` describes the value.",
    "type": "object",
    "properties": {"sealed": {"type": "string", "contentEncoding": "base64"}},
    "required": ["sealed"],
    "additionalProperties": False,
}


def load_events() -> None:
    """Fill the registry: each module of this room that holds events registers them when it is imported."""
    for module in pkgutil.iter_modules(engine.__path__):
        if module.name != "schema":
            importlib.import_module(f"engine.{module.name}")


# -- generating ------------------------------------------------------------------------------------------------------------


def schema_of(event_class: type[Event]) -> Schema:
    """The schema of what lies in the log's state column for this event."""
    definitions: dict[str, Schema] = {}
    body = _struct(event_class, definitions)
    for field, subject in personal_fields(event_class).items():
        definitions["Sealed"] = SEALED
        stated = body["properties"][field]
        plain = {key: value for key, value in stated.items() if key != "default"}
        sealed: Schema = {"$ref": "#/$defs/Sealed", "x-subject": subject, "x-content": plain}
        if _may_be_nobody(event_class, subject):
            # Without a person there is nothing personal: then it stands in plain.
            sealed = {"anyOf": [sealed, plain]}
        body["properties"][field] = sealed | {key: value for key, value in stated.items() if key == "default"}
    schema: Schema = {"$schema": DIALECT, "$id": f"{BASE}{event_class.TOPIC}.json"} | body | {"title": event_class.TOPIC}
    if definitions:
        schema["$defs"] = dict(sorted(definitions.items()))
    return schema


def _may_be_nobody(event_class: type[Event], subject: str) -> bool:
    return type(None) in getattr(get_type_hints(event_class)[subject], "__args__", ())


def _struct(struct: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    info = types.type_info(struct)
    assert isinstance(info, types.StructType)
    properties: dict[str, Schema] = {}
    for field in info.fields:
        properties[field.encode_name] = _node(field.type, definitions)
        if not field.required:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            properties[field.encode_name] |= {"default": msgspec.json.decode(msgspec.json.encode(default))}
    return {
        "title": struct.__name__,
        "description": inspect.cleandoc(struct.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "required": [field.encode_name for field in info.fields if field.required],
    }


def _node(info: types.Type, definitions: dict[str, Schema]) -> Schema:
    scalar = _SCALARS.get(type(info))
    if scalar is not None:
        return dict(scalar)
    match info:
        case types.Metadata():
            return _node(info.type, definitions)
        case types.UnionType():
            return {"anyOf": [_node(each, definitions) for each in info.types]}
        case types.VarTupleType() | types.ListType():
            return {"type": "array", "items": _node(info.item_type, definitions)}
        case types.DictType():
            return {"type": "object", "additionalProperties": _node(info.value_type, definitions)}
        case types.EnumType():
            values = [member.value for member in info.cls]
            definitions[info.cls.__name__] = {"description": inspect.cleandoc(info.cls.__doc__ or ""), "enum": values}
            return {"$ref": f"#/$defs/{info.cls.__name__}"}
        case types.StructType():
            definitions[info.cls.__name__] = _struct(info.cls, definitions)
            return {"$ref": f"#/$defs/{info.cls.__name__}"}
    raise TypeError(f"an event holds {info}, for which there is no schema")


_SCALARS: Final[Mapping[type[types.Type], Schema]] = {
    types.StrType: {"type": "string"},
    types.IntType: {"type": "integer"},
    types.FloatType: {"type": "number"},
    types.BoolType: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    types.DateTimeType: {"type": "string", "format": "date-time"},
    types.UUIDType: {"type": "string", "format": "uuid"},
}


# -- comparing -------------------------------------------------------------------------------------------------------------


def contradictions(old: Schema, new: Schema) -> list[str]:
    """What of `new` contradicts `old`, as sentences about the fields; empty where whatever fits `old` still means the same."""
    return [f"{path} {what}" for path, what in _contradictions(old, new, old, new, "")]


def _contradictions(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str) -> Iterator[tuple[str, str]]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if _shape(old) != _shape(new):
        yield path, f"was {_shown(old)} and is now {_shown(new)}"
        return
    gone = [value for value in old.get("enum", ()) if value not in new["enum"]]
    if gone:
        yield path, f"may no longer be {', '.join(map(str, gone))}"
    if "properties" in old:
        yield from _changed_fields(old, new, old_root, new_root, path)
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}"), ("x-content", "")):
        if isinstance(old.get(key), dict):
            yield from _contradictions(old[key], new[key], old_root, new_root, path + suffix)
    for before, after in zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=True):
        yield from _contradictions(before, after, old_root, new_root, path)


def _changed_fields(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str) -> Iterator[tuple[str, str]]:
    before, after = old["properties"], new["properties"]
    for name, schema in before.items():
        where = f"{path}.{name}" if path else name
        if name not in after:
            yield where, "was removed or renamed"
            continue
        # A default is not stored, so changing it changes what stored events say.
        if "default" in schema and "default" in after[name] and schema["default"] != after[name]["default"]:
            yield where, f"was {json.dumps(schema['default'])} where nothing is said and is now {json.dumps(after[name]['default'])}"
        yield from _contradictions(schema, after[name], old_root, new_root, where)
    for name in new["required"]:
        if name not in old["required"]:
            yield (f"{path}.{name}" if path else name), "is required and was not"


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = root["$defs"][reference.removeprefix("#/$defs/")]
    return found | {key: value for key, value in schema.items() if key.startswith("x-")}


def _shape(schema: Schema) -> tuple[Any, ...]:
    """What must be equal for two schemas to be of one type; what is inside is compared on its own."""
    return (
        schema.get("type"), schema.get("format"), schema.get("x-subject"), schema.get("contentEncoding"), "enum" in schema,
        "properties" in schema, isinstance(schema.get("additionalProperties"), dict), len(schema.get("anyOf", ())),
    )


def _shown(schema: Schema) -> str:
    if "x-subject" in schema:
        return f"personal data of {schema['x-subject']}"
    if "enum" in schema:
        return "one of a closed set"
    if "anyOf" in schema:
        return f"one of {len(schema['anyOf'])} types"
    if isinstance(schema.get("additionalProperties"), dict):
        return "a map"
    return f"{schema['type']} ({schema['format']})" if "format" in schema else str(schema["type"])


# -- the files -------------------------------------------------------------------------------------------------------------


def render(schema: Schema) -> str:
    """The bytes of the file: stable, so that a difference is a change."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def incompatible(folder: Path = FOLDER, registry: Mapping[str, type[Event]] = REGISTRY) -> list[str]:
    """Changes of events that have a schema in `folder`, each as a sentence that says what to do."""
    found: list[str] = []
    for path in sorted(folder.glob("*.json")):
        topic = path.stem
        event_class = registry.get(topic)
        if event_class is not None:
            changes = contradictions(json.loads(path.read_text()), schema_of(event_class))
            found += [f"{topic}: {change}. Logs hold it as it was: give it a new version and an upcaster." for change in changes]
        elif topic not in UPCASTERS:
            found.append(f"{topic}: nothing reads it any more. Logs hold it: keep its class, or bring an upcaster.")
    return found


def outdated(folder: Path = FOLDER, registry: Mapping[str, type[Event]] = REGISTRY) -> list[str]:
    """Stored names whose file is missing or not what would be written now."""
    def stands(topic: str) -> str | None:
        path = folder / f"{topic}.json"
        return path.read_text() if path.exists() else None

    return [topic for topic, event_class in sorted(registry.items()) if stands(topic) != render(schema_of(event_class))]


def check(folder: Path = FOLDER, registry: Mapping[str, type[Event]] = REGISTRY) -> list[str]:
    """All that is wrong with the files, as sentences; incompatible changes first."""
    wrong = incompatible(folder, registry)
    named = {sentence.partition(":")[0] for sentence in wrong}
    return wrong + [f"{topic}: its schema is outdated; run {COMMAND}" for topic in outdated(folder, registry) if topic not in named]


def write(folder: Path = FOLDER, registry: Mapping[str, type[Event]] = REGISTRY) -> list[str]:
    """Bring the files up to date; the sentences for which nothing was written. Files of older versions stay as they are."""
    wrong = incompatible(folder, registry)
    if not wrong:
        folder.mkdir(parents=True, exist_ok=True)
        for topic in outdated(folder, registry):
            (folder / f"{topic}.json").write_text(render(schema_of(registry[topic])))
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 where something is wrong, told on standard error."""
    load_events()
    wrong = check() if "--check" in arguments else write()
    for sentence in wrong:
        sys.stderr.write(sentence + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
