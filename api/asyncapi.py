"""The AsyncAPI 3.0 document of what goes through Kafka, generated and checked in: `schemas/asyncapi.json`.

    python -m api.asyncapi            writes it
    python -m api.asyncapi --check    fails where it is outdated

The payloads of the events are the schemas beside it, which `python -m engine.schema` writes; this is about what is around them.
"""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.event import REGISTRY, Event
from engine.schema import FOLDER, load_events, render
from monitors.kafka_record import SOURCE_ATTRIBUTE, STRUCTURED, Envelope

FILE: Final = FOLDER.parent / "asyncapi.json"
COMMAND: Final = "python -m api.asyncapi"
# Of this document; raised where a reader has to change.
VERSION: Final = "1.0.0"
DIALECT: Final = "application/schema+json;version=draft-2020-12"
BINDING: Final = "0.5.0"

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_UUID: Final[Schema] = {"type": "string", "format": "uuid"}
_REFERENCE: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f-]{36}:[1-9][0-9]*$"}
_NUMBER: Final[Schema] = {"type": "string", "pattern": "^[1-9][0-9]*$"}


def document() -> Schema:
    """The whole document; its file lies beside `events/`."""
    load_events()
    events = {topic: _event(topic, event_class) for topic, event_class in sorted(REGISTRY.items())}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tocsin over Apache Kafka", "version": VERSION, "license": {"name": "Apache-2.0"},
            "description": "Deliveries of monitors in, every event of the log out. The names of the topics are settings "
            "(`TOCSIN_KAFKA_DELIVERIES`, `TOCSIN_KAFKA_EVENTS`); these are their defaults.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": "tocsin.events",
                "description": "Every event of the log, keyed by its stream, in log order within a partition, at least once. An event whose "
                "`ce_tocsinversion` a reader has had of its stream is a repetition. Read with `isolation.level=read_committed`.",
                "messages": {topic: {"$ref": f"#/components/messages/{topic}"} for topic in events},
            },
            "deliveries": {
                "address": "tocsin.deliveries",
                "description": "What monitors say; each record leads to what a POST to its source's hook would. What belongs together has one key.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _DELIVERIES},
            },
            "dead": {
                "address": "tocsin.deliveries.dead",
                "description": "Deliveries that cannot be taken, as they were, with the reason.",
                "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
            },
        },
        "operations": {
            "publishEvents": {"action": "send", "channel": {"$ref": "#/channels/events"}},
            "decideDeliveries": {"action": "receive", "channel": {"$ref": "#/channels/deliveries"}},
            "putAside": {"action": "send", "channel": {"$ref": "#/channels/dead"}},
        },
        "components": {
            "messages": {**events, **_DELIVERIES, "deadLetter": _DEAD_LETTER},
            "schemas": {"EventHeaders": _EVENT_HEADERS, "DeadLetterHeaders": _DEAD_LETTER_HEADERS, **_envelope()},
        },
    }


def _event(topic: str, event_class: type[Event]) -> Schema:
    return {
        "name": topic,
        "title": topic,
        "summary": inspect.cleandoc(event_class.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        "headers": {"allOf": [{"$ref": "#/components/schemas/EventHeaders"}, {"properties": {"ce_type": {"const": topic}}}]},
        "payload": {"schemaFormat": DIALECT, "schema": {"$ref": f"./events/{topic}.json"}},
        "bindings": {"kafka": {"key": {**_UUID, "description": "the event's stream"}, "bindingVersion": BINDING}},
    }


_EVENT_HEADERS: Final[Schema] = {
    "description": "A CloudEvent 1.0 in binary mode; values are text in UTF-8.",
    "type": "object",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {**_REFERENCE, "description": "STREAM:VERSION; also how another event names this one as its cause"},
        "ce_source": {"type": "string", "pattern": "^urn:uuid:", "description": "the store"},
        "ce_type": {"type": "string", "description": "the event's name and version"},
        "ce_subject": {**_UUID, "description": "the stream: a ticket, an alert, a person, ..."},
        "ce_time": {"type": "string", "format": "date-time", "description": "when it was recorded; never decreases along the log"},
        "ce_tocsinposition": {**_NUMBER, "description": "place in the log"},
        "ce_tocsinversion": {**_NUMBER, "description": "place in its stream, from 1 without gaps"},
        "ce_tocsinactor": {"type": "string", "description": "who did it: user:ID, source:NAME, token:ID, portal, timer or tocsin"},
        "ce_tocsincorrelation": {**_UUID, "description": "the same for everything that one delivery or command led to"},
        "ce_tocsincause": {**_REFERENCE, "description": "the event that led to it; missing: it came from outside"},
        "content-type": {"const": "application/json"},
        "ce_dataref": {
            "type": "string", "format": "uri",
            "description": "instead of content-type and a value, of an event of more than 900,000 bytes: where it is fetched",
        },
    },
    "required": [
        "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_tocsinposition", "ce_tocsinversion",
        "ce_tocsinactor", "ce_tocsincorrelation",
    ],
    "oneOf": [{"required": ["content-type"]}, {"required": ["ce_dataref"]}],
    "additionalProperties": False,
}

_DEAD_LETTER_HEADERS: Final[Schema] = {
    "description": "Besides the record's own headers.",
    "type": "object",
    "properties": {
        "tocsin-reason": {"type": "string", "description": "what was expected"},
        "tocsin-field": {"type": "string", "description": "where: a member, a header, $ for the whole"},
        "tocsin-topic": _TEXT, "tocsin-partition": _TEXT, "tocsin-offset": _TEXT,
        "tocsin-tombstone": {"const": "true", "description": "it had neither key nor value"},
        "tocsin-length": {**_NUMBER, "description": "it was too large with its reason; the value is its first 64 KiB"},
    },
    "required": ["tocsin-reason", "tocsin-field", "tocsin-topic", "tocsin-partition", "tocsin-offset"],
}

_KEY: Final[Schema] = {"kafka": {"key": {"type": "string", "description": "SOURCE: and the sender's group"}, "bindingVersion": BINDING}}
_CLOUD: Final = ("id", "source", "type", SOURCE_ATTRIBUTE)

_DELIVERIES: Final[dict[str, Schema]] = {
    "envelope": {
        "title": "Our envelope", "bindings": _KEY,
        "payload": {"schemaFormat": DIALECT, "schema": {"$ref": "#/components/schemas/Envelope"}},
    },
    "cloudEventBinary": {
        "title": "A CloudEvent in binary mode", "bindings": _KEY,
        "summary": f"Value: the body that the monitor sends; `ce_{SOURCE_ATTRIBUTE}`: the name of its source here.",
        "headers": {
            "type": "object",
            "properties": {"ce_specversion": {"const": "1.0"}, **{f"ce_{name}": _TEXT for name in _CLOUD}, "content-type": _TEXT},
            "required": ["ce_specversion", *(f"ce_{name}" for name in _CLOUD)],
        },
        "payload": {},
    },
    "cloudEventStructured": {
        "title": "A CloudEvent in structured mode", "contentType": STRUCTURED, "bindings": _KEY,
        "headers": {"type": "object", "properties": {"content-type": {"type": "string", "pattern": "^application/cloudevents\\+json"}}, "required": ["content-type"]},
        "payload": {
            "type": "object",
            "properties": {
                "specversion": {"const": "1.0"}, **dict.fromkeys(_CLOUD, _TEXT), "datacontenttype": _TEXT, "data": {},
                "data_base64": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["specversion", *_CLOUD],
            "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        },
    },
}

_DEAD_LETTER: Final[Schema] = {
    "title": "A delivery that cannot be taken", "summary": "Key, value and headers are its own.",
    "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"}, "payload": {},
}


def _envelope() -> dict[str, Schema]:
    _, found = msgspec.json.schema_components([Envelope], ref_template="#/components/schemas/{name}")
    envelope = {**found["Envelope"], "oneOf": [{"required": ["body"]}, {"required": ["body_base64"]}]}
    return {**found, "Envelope": envelope}


def main(arguments: Sequence[str], file: Path = FILE) -> int:
    """Exit code 1 where the file is to be checked and is outdated."""
    text = render(document())
    if "--check" not in arguments:
        file.write_text(text)
    elif not file.exists() or file.read_text() != text:
        sys.stderr.write(f"{file.name} is outdated; run {COMMAND}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
