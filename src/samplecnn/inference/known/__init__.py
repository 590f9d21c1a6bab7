"""Weights that others have published, as networks of ours; untrusted input."""
