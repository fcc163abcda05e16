"""A trial: an arm of an experiment with one seed, what it is given, and the folder that it is kept in."""
