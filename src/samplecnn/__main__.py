"""``samplecnn``, also as ``python -m samplecnn``: nothing is imported before Ctrl-C can end it quietly."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the command line; return its exit status, 130 after Ctrl-C."""
    try:
        from samplecnn import cli

        return cli.main(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
