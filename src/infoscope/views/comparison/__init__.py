"""Several runs side by side: their spectra, what differs between them, and a sweep over a model's blocks."""
