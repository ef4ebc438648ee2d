"""Linear probes: what a simple head still finds in a backbone's features."""
