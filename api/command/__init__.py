"""The `tocsin` command. `main` is the entry point; each module holds the commands of one concern."""

from api.command.root import main

__all__ = ["main"]
