"""Sample-level CNNs for music auto-tagging from raw waveforms (Kim, Lee and Nam, 2018)."""
