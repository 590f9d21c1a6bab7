"""Fused operations of the network, each beside its plain twin."""
