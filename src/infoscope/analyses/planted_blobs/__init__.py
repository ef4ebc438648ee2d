"""A second family of planted models, written without the first: rules chosen on one are reported on the other."""
