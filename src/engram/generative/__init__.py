"""What makes new things: sequences that are better than those measured (``engram.generative.design``)."""
