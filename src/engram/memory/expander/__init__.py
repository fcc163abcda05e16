"""The expander memory, its graphs, the decoders that it is compared with, and what is tied to its states."""
