"""Zero-shot classification: what a model predicts, and how surely, when feature groups are removed."""
