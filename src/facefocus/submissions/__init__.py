"""A run's results in one file, for others to check."""
