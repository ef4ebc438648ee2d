"""The small model, SAE, run and pictures of `coloured`."""

from coloured import coloured, coloured_folder, directions, probed, probed_run  # noqa: F401
