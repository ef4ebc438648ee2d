"""Vision models whose features are known by construction: the truth that the measurement is compared with."""
