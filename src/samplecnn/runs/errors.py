"""What goes wrong with what a run leaves behind."""


class RunError(ValueError):
    """A run folder, checkpoint or bundle cannot be used."""
