"""Training, testing and what a run leaves behind."""
