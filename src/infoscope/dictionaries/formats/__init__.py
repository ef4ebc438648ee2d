"""Checkpoint formats: one module each, which knows its files and turns them into the canonical form."""
