"""Choosing features by scope: how many to remove, from which end, for a task."""
