"""``python -m engram``, and the command ``engram``."""

import sys

from engram import extras


def main() -> None:
    """Run the command line; if its packages are missing, say how to install them."""
    try:
        from engram import cli
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {extras.missing('lab', 'The command engram', error)}\n")
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
