"""What goes wrong with what a run leaves behind."""

from samplecnn.errors import UserError


class RunError(UserError):
    """A run folder, checkpoint or bundle cannot be used."""
