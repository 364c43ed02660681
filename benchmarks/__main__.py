"""`python -m benchmarks [NAME …]`: run the measurements (all by default) and print their figures.

Load generator, server and database share this machine's cores, so figures are to be compared within one run only.
"""

import argparse
import sys

from benchmarks import (
    backup,
    copying,
    files,
    growth,
    intake,
    kafka,
    ledger,
    move_in,
    notices,
    pages,
    postgres,
    processes,
    replay,
    search,
    views,
)

MEASUREMENTS = {
    "ledger": ledger.run, "views": views.run, "intake": intake.run, "pages": pages.run, "backup": backup.run, "move_in": move_in.run,
    "notices": notices.run, "search": search.run, "postgres": postgres.run, "files": files.run, "growth": growth.run,
    "kafka": kafka.run, "replay": replay.run,
    "copy": copying.run, "processes": processes.run,
}


def main() -> None:
    """Run what was named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}")
    parser.add_argument("--closed", type=int, default=1_000_000, help="closed tickets of the large store of `pages`")
    parser.add_argument("--open", type=int, default=100_000, help="open tickets of the large store of `pages`")
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the store of `backup` and of `copy`")
    parser.add_argument("--growth", type=int, default=1_000_000, help="tickets of the largest store of `growth`")
    options = parser.parse_args()
    unknown = set(options.names) - MEASUREMENTS.keys()
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    for name in options.names or MEASUREMENTS:
        print(f"\n== {name}")
        MEASUREMENTS[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
