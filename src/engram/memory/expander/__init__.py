"""The expander memory, its graphs, the decoders that it is compared with, and stores of content on its states."""
