"""Figures for papers: charts at print size, of a finished run."""
