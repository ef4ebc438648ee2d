"""Feature groups: of a run's partition and classes, by a rule, by a list, and random ones to compare with."""
