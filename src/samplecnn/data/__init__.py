"""From audio files and annotations to batches of segments."""
