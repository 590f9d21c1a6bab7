"""Trained models at work on audio."""
