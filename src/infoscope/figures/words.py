"""What a caption says of the run behind a figure."""

from __future__ import annotations

from infoscope.report.summary import settings_of
from infoscope.report.template import short_name
from infoscope.storage.run import Run


def measured(run: Run) -> str:
    """With what a run was measured, on what: a clause for a caption."""
    manifest, settings = run.manifest, settings_of(run)
    return (
        f"{short_name(manifest.dictionary.name)}, {short_name(manifest.model.name)} block {manifest.model.block}, "
        f"{manifest.images.read:,} images, {settings.top_images} top images a feature, shift {settings.shift}"
    )


def plural(count: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> plural(1, "feature"), plural(1200, "feature")
        ('1 feature', '1,200 features')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
