"""Sparse autoencoders from streams of patch tokens."""
