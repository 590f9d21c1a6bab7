"""Blocks and the strided nine-block network."""
