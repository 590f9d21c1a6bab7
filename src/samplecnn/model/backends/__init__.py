"""Other ways to compute what `blocks.py` and `network.py` say, each proven equal to them."""
