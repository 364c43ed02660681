"""`python -m api.command`: the same as `tocsin`."""

from api.command.root import main

main()
