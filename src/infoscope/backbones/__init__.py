"""Vision transformers as sources of patch tokens: one table of families, tokens at the output of any block."""
