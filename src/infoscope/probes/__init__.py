"""Probes on frozen features: data sets with targets, metrics, and baselines without any model."""
