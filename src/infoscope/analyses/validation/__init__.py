"""Does the measurement find the truth? Planted models, measured and held against what was planted."""
