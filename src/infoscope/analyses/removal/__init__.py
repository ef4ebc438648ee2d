"""A backbone without some of its features."""
