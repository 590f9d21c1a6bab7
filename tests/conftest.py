"""What holds for all tests."""

import os
import signal
import tempfile

# A shell starts background jobs with Ctrl-C ignored, and every process that they start inherits that: the
# tests that interrupt one would see it run on.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The tests run in a process per core, and many start others: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test takes the model that its user has chosen with `samplecnn use`.
os.environ["XDG_CONFIG_HOME"] = os.path.join(tempfile.gettempdir(), "samplecnn-no-such-folder")  # noqa: PTH118
