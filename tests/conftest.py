"""What holds for all tests."""

import signal

# A shell starts background jobs with Ctrl-C ignored, and every process that they start inherits that: the
# tests that interrupt one would see it run on.
signal.signal(signal.SIGINT, signal.default_int_handler)
