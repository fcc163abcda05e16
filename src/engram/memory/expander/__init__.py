"""The expander memory, its graphs, decoders for comparison, and stores of content addressed by its states."""
