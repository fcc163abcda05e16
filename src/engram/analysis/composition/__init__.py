"""Whether a generator composes: what it draws, how its representation is ordered, and what its data have in common."""
