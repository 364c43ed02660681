"""How commands print: JSON for programs."""

import sys
from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
