"""The data sets: where audio and annotations come from."""
