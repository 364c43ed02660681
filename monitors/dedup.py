"""The keys by which repeats of one condition are known: a digest of labels, and a key composed of several values.

Both encodings are fixed for good, because stored alerts are found by them: changing one would open every alert anew.
Our digest rather than the sender's fingerprint: older senders have none, and what counts as the same label set is
decided here (an empty label is an absent one, 503 is "503"). What intake does with a key is `engine/judgement.py`'s business.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from engine.errors import MalformedDelivery
from monitors.json_body import element
from monitors.reading import scalar_text

MAX_KEY: Final = 512     # characters; Opsgenie's limit for an alias, the longest among those that we imitate
DIGEST_BYTES: Final = 16


def label_digest(labels: Mapping[str, object]) -> str:
    """The identity of a label set, as 32 hexadecimal characters.

    Independent of order; null and empty values are as absent, scalars are as their text (`scalar_text`).
    Encoding: names in code point order, each followed by its value, both as `length:text`, so no two sets meet; BLAKE2b-128 of its UTF-8.
    """
    parts = []
    for name in sorted(labels):
        value = labels[name]
        text = value if type(value) is str else scalar_text(value)
        if text:
            parts.append(f"{len(name)}:{name}{len(text)}:{text}")
    return blake2b("".join(parts).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()


def sender_of(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The reporter that a source's ignored labels name, as canonical text (`replica="a"`); None where none of them is there."""
    present = [f"{name}={json.dumps(labels[name], ensure_ascii=False)}" for name in sorted(names) if name in labels]
    if not present:
        return None
    text = ",".join(present)
    return text if len(text) <= MAX_KEY else label_digest({name: labels[name] for name in names if name in labels})


def composed_key(parts: Sequence[object], path: str) -> str | None:
    """One key made of several scalars; a missing part (null) is a value of its own, and 0, "" and false are not missing.

    Encoding: a single part is its text; several are a JSON array of texts and nulls. A single one that looks like such an
    array is written as one, so no two keys meet.

    Args:
        parts: in the order that makes the key.
        path: where they were found, for the error.

    Returns:
        None where every part is missing: there is no key.

    Raises:
        MalformedDelivery: a part is no scalar, or the key is longer than 512 characters (422).
    """
    texts = [_part(part, element(path, index) if len(parts) > 1 else path) for index, part in enumerate(parts)]
    if all(text is None for text in texts):
        return None
    if len(texts) == 1 and texts[0] is not None and not texts[0].startswith("["):
        key = texts[0]
    else:
        key = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    if len(key) > MAX_KEY:
        raise MalformedDelivery(path, f"expected a key of at most {MAX_KEY} characters")
    return key



def _part(value: object, path: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    text = scalar_text(value)
    if text is None:
        raise MalformedDelivery(path, "expected text, a number, true or false as a part of the key")
    return text
