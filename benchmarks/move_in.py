"""Importing 50,000 tickets with three comments each from a CSV export, and the views that follow."""

import argparse
import csv
from pathlib import Path

from benchmarks.figures import scratch, seconds, tell
from benchmarks.intake import tocsin

TICKETS, COMMENTS, PEOPLE, AGENTS = 50_000, 3, 5_000, 40
TEXT = "It hums, and then it stops. We have switched it off and on again. " * 8


def run(_: argparse.Namespace) -> None:
    """Once as a dry run, once in earnest, and once more when all is here."""
    with scratch() as folder:
        data, tickets, comments = folder / "data", folder / "tickets.csv", folder / "comments.csv"
        _write(tickets, comments)
        tocsin("migrate", data=data)
        arguments = ("import", str(tickets), "--mapping", "zendesk", "--comments", str(comments))
        tell("the export", f"{TICKETS:,} tickets", f"{TICKETS * COMMENTS:,} comments, {tickets.stat().st_size / 2**20:.0f} + {comments.stat().st_size / 2**20:.0f} MiB")
        tell("dry run", f"{seconds(lambda: tocsin(*arguments, '--dry-run', data=data)):.1f} s")
        tell("import", f"{seconds(lambda: tocsin(*arguments, data=data)):.1f} s", "bar: <= 300 s")
        tell("the same again, all of it here", f"{seconds(lambda: tocsin(*arguments, data=data)):.1f} s")
        tell("building the views", f"{seconds(lambda: tocsin('queue', '--json', data=data)):.1f} s")


def _write(tickets: Path, comments: Path) -> None:
    with tickets.open("w", newline="") as content:
        writer = csv.writer(content)
        writer.writerow([
            "Summation column", "Id", "Requester", "Requester email", "Assignee", "Group", "Subject", "Description", "Tags", "Status", "Priority",
            "Via", "Ticket type", "Created at", "Updated at", "Initially assigned at", "Solved at",
        ])
        for number in range(1, TICKETS + 1):
            who, day = number % PEOPLE, f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}"
            writer.writerow([
                number, number, f"Person {who}", f"person-{who}@example.com", f"Agent {number % AGENTS}", "Support", f"Printer {number} hums", TEXT,
                "printer", "Closed" if number % 50 else "Open", "Normal", "Mail", "Incident", f"{day} 09:00", f"{day} 16:00", f"{day} 09:10",
                f"{day} 15:00" if number % 50 else "",
            ])
    with comments.open("w", newline="") as content:
        writer = csv.writer(content)
        writer.writerow(["Ticket id", "Comment", "Author", "Created at", "Public"])
        for number in range(1, TICKETS + 1):
            for part in range(COMMENTS):
                writer.writerow([number, TEXT, f"Person {number % PEOPLE}", f"2024-12-30 1{part}:00", "true"])
