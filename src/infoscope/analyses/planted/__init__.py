"""Vision models whose features are known by construction: the truth that the measurement is held against."""
