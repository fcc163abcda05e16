"""What reads records: the experiments, what the papers say, how methods rank, and how records are made."""
