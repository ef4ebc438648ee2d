"""Sparse autoencoders in one canonical form: activation functions, sparse codes, reading and writing."""
