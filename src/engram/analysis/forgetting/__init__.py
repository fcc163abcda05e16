"""Did it forget, or only lose its read-out? What of a network's forgetting is in its features."""
