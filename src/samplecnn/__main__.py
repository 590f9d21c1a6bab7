"""``python -m samplecnn``: the ``samplecnn`` command."""

import sys

from samplecnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
