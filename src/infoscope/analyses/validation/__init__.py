"""Does the measurement find the truth? Planted models are measured, and the result is compared with the truth."""
