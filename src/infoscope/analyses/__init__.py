"""Analyses of a finished run, and of models of which the truth is known."""
