"""What goes wrong for a reason that the user can mend."""


class UserError(ValueError):
    """A message to the user: what was wrong, the value, and what is allowed or what to do next.

    Commands print it without a traceback. Every error class of the project that a user may meet derives from
    it; any other exception is a fault of the program, and shows its traceback.
    """
