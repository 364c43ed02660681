"""`python -m tests.planted.launcher BUG …`: the command `tocsin …` with a bug in it."""

import sys

from api.command import main
from tests.planted.bugs import IN_A_SERVER

if __name__ == "__main__":
    with IN_A_SERVER[sys.argv.pop(1)]():
        main()
