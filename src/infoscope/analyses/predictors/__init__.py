"""What predicts what: how a run's measures of features go together, repeat, and tell what a removal does."""
