"""The small model, SAE, run and pictures of `coloured`."""

from coloured import coloured, coloured_folder, directions, few_strengths, probed, probed_run  # noqa: F401
