"""``infoscope check``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.cli.inputs import Passes, open_pair
from infoscope.cli.output import Answer, Output, print_rows
from infoscope.options import Resize

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.images.source import ImageSource
    from infoscope.runtime.manifest import FitRecord


@dataclass(frozen=True)
class Check:
    """Check whether an SAE fits a model, on at most 256 of the images. Nothing is written.

    A warning is a finding and not an error: the exit status is 0 with and without.
    """

    sae: str
    """The SAE: a directory that `infoscope train` wrote, a name that `infoscope saes` lists, or a hub id."""
    images: str
    """The images: a folder (searched recursively), webdataset shards ('shards/*.tar'), a saved data set, parquet files
    (folder[:split]), or a data set of the hub, owner/name[:split]."""
    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id. Default: the one the SAE was trained on."""
    block: int | None = None
    """The block whose output the SAE reads, from 0; negative counts from the end. Default: the SAE's own."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the SAE's own, else the model's (DINOv2: 224)."""
    revision: str | None = None
    """The model's revision on the hub."""
    resize: Resize = "stretch"
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre."""
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.images.source import open_images
        from infoscope.measurement.fit import check_fit

        images = open_images(self.images)
        backbone, sae = open_pair(self.sae, self.model, self.block, self.input_side, self.revision, self.passes)
        fit = check_fit(backbone, sae, images, resize=self.resize, execution=self.passes.execution)
        from infoscope.measurement.summary import fit_sentence

        return Answer(
            lambda: _print_table(backbone, sae, images, fit),
            lambda: _result(backbone, sae, images, fit),
            warnings=fit.warnings or [],
            word=fit_sentence(fit)[0],
        )


def _result(backbone: Backbone, sae: SparseAutoencoder, images: ImageSource, fit: FitRecord) -> dict[str, Any]:
    from infoscope.measurement.identity import dictionary_record, model_record

    return {
        "fits": not fit.warnings,
        "fit": fit,
        "dictionary": dictionary_record(sae),
        "model": model_record(backbone),
        "images": {"source": images.name, "count": len(images), "sampled": fit.sample // backbone.grid**2},
    }


def _print_table(backbone: Backbone, sae: SparseAutoencoder, images: ImageSource, fit: FitRecord) -> None:
    from infoscope.cli.summary import fit_rows
    from infoscope.measurement.fit import fit_sample

    read, asked = fit.sample // backbone.grid**2, len(fit_sample(len(images)))
    lost = f"; {asked - read} could not be read" if read < asked else ""
    print_rows(
        [
            ("SAE", f"{sae.name}, {sae.features:,} features, {sae.activation}"),
            ("model", f"{backbone.name} ({backbone.family}), block {backbone.block}"),
            ("images", f"{images.name}, {read:,} of {len(images):,}{lost}; {fit.sample:,} patch tokens"),
            *fit_rows(fit),
        ]
    )
