"""What goes wrong for a reason that the user can mend."""

import importlib.util
import re

NO_HOST = re.compile("name resolution|not known|nodename|no address", re.IGNORECASE)  # of systems


class UserError(ValueError):
    """A message to the user: what was wrong, the value, and what is allowed or what to do next.

    Commands print it without a traceback. Every error class of the project that a user may meet derives from
    it; any other exception is a fault of the program, and shows its traceback.
    """


def require_libraries(extra: str, *libraries: str) -> None:
    """Raise UserError, which says what to install, unless libraries of an extra of the package are there."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise UserError(f'{library} is not installed: pip install "samplecnn[{extra}]"')


def network_reason(error: BaseException) -> str:
    """Return in words why something on a network could not be had."""
    reason = getattr(error, "reason", None)  # what urllib has wrapped
    text = str(reason or error).strip().partition("\n")[0] or type(error).__name__
    return "no network, or no such host" if NO_HOST.search(text) else re.sub(r"\[Errno -?\d+\] ", "", text)
