"""Pure functions on arrays: sparse maps, exact distances, scores, intervals, the partition."""
