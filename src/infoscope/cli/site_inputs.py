"""What a site needs besides its run, as far as it can be had: the photographs and the SAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infoscope.cli.output import LOGGER
from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.images.source import ImageSource
    from infoscope.runtime.run import Run


def open_run_images(run: Run, named: str | None) -> ImageSource | None:
    """The images of a run, or those that are named; None, and a line that says so, where the run's are gone.

    Another line says where they are not those that were measured.

    Raises:
        InfoscopeError: those that are named cannot be opened.
    """
    from infoscope.images.source import open_images
    from infoscope.images.watched import watch
    from infoscope.measurement.identity import other_images

    try:
        images = watch(open_images(named or run.manifest.images.source))
    except InfoscopeError as error:
        if named is not None:
            raise
        LOGGER.warning("%s; the site is made without photographs, or give --images", error)
        return None
    if (difference := other_images(run, images)) is not None:
        LOGGER.warning("%s; the site shows those that are still the same", difference)
    return images


def open_run_sae(run: Run, named: str | None) -> tuple[SparseAutoencoder | None, str]:
    """The SAE of a run, or the one that is named; None, and why, where there is none to open.

    Raises:
        InfoscopeError: the one that is named cannot be opened, or is another.
    """
    from infoscope.cli.inputs import open_sae
    from infoscope.training.untrained import is_untrained

    record = run.manifest.dictionary
    if named is None and is_untrained(record):
        return None, f"a dictionary of kind {record.format} is not kept with its run"
    try:
        sae = open_sae(named or record.name)
    except InfoscopeError as error:
        if named is not None:
            raise
        LOGGER.warning("%s; the site is made without neighbours by direction, or give --sae", error)
        return None, "the SAE could not be opened when this site was made"
    if named is not None and sae.sha256 != record.sha256:
        raise InfoscopeError(
            f"{named} is not the SAE that {run.path} measured: its weights differ"
            "; give the one it was measured with, or leave out --sae"
        )
    return sae, ""
