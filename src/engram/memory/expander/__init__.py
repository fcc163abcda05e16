"""The expander memory, its graphs, decoders for comparison, and content stores addressed by its states."""
