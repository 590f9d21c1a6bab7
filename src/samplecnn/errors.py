"""What goes wrong for a reason that the user can mend."""

import re

NO_HOST = re.compile("name resolution|not known|nodename|no address", re.IGNORECASE)  # of systems


class UserError(ValueError):
    """A message to the user: what was wrong, the value, and what is allowed or what to do next.

    Commands print it without a traceback. Every error class of the project that a user may meet derives from
    it; any other exception is a fault of the program, and shows its traceback.
    """


def network_reason(error: BaseException) -> str:
    """Return in words why something on a network could not be had."""
    reason = getattr(error, "reason", None)  # what urllib has wrapped
    text = str(reason or error).strip().partition("\n")[0] or type(error).__name__
    return "no network, or no such host" if NO_HOST.search(text) else re.sub(r"\[Errno -?\d+\] ", "", text)
