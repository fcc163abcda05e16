"""``python -m engram``, and the command ``engram``."""

import sys

from engram import extras


def main() -> None:
    """Run the command line; where its packages are missing, say how they are installed."""
    try:
        from engram import cli
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {extras.missing('lab', 'The command engram', error)}\n")
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
