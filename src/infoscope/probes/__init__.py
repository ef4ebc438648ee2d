"""Linear probes on frozen features: recipes, heads and how they are chosen."""
