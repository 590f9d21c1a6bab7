"""``python -m samplecnn.cli``."""

import sys

from samplecnn.cli import main

sys.exit(main())
