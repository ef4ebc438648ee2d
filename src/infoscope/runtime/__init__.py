"""Run directories and token caches: manifests, tables with their columns, and writing them whole or not at all."""
