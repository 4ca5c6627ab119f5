"""``python -m genreg`` is the command line."""

from genreg.cli import main

if __name__ == "__main__":  # not in a worker, which imports this file too
    main()
