"""``python -m zellige``: the command line."""

from zellige.cli import main

if __name__ == "__main__":
    main()
