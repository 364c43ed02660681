"""The command's root: its sub-commands, and how errors of ours are told (one line, no traceback)."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

from api.command import (
    administration,
    finding,
    intake,
    keeping,
    keeping_views,
    moving,
    notifying,
    organisation,
    serving,
    targets,
    viewing,
)
from engine.errors import TocsinError

app = typer.Typer(
    name="tocsin", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Event-sourced IT service management: alerts in; tickets, history and measures out.",
    epilog="Settings come from TOCSIN_* in the environment or a TOML file named by TOCSIN_SETTINGS; see docs/settings.md.",
)
serving.register(app)
intake.register(app)
viewing.register(app)
finding.register(app)
administration.register(app)
keeping.register(app)
keeping_views.register(app)
moving.register(app)
notifying.register(app)
targets.register(app)
organisation.register(app)


def main() -> None:
    """Run a command; exit 1 with one line for whatever was asked wrongly or can't be done."""
    serving.configure_logs()
    try:
        app()
    except TocsinError as error:
        _refuse(str(error))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        _refuse(f"cannot use {error.filename}: {error.strerror}" if error.filename else str(error))


def _refuse(text: str) -> NoReturn:
    Console(stderr=True, highlight=False).print(f"tocsin: {text}", style="red", markup=False, soft_wrap=True)
    sys.exit(1)
