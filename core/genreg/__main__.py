"""``python -m genreg`` is the command line."""

from genreg.cli import main

main()
