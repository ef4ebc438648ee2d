"""Outlier tokens: patch tokens of abnormally high norm, where they sit, how they move and what they carry."""
