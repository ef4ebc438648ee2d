"""The first report: one self-contained HTML page a run, made from its tables."""
