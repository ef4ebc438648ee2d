"""Run directories: the manifest, the tables with their columns, and writing them whole or not at all."""
