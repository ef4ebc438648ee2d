"""A run's report: a website that needs no server and no network, made from the run's tables."""
