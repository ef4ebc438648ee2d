"""``infoscope zeroshot``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.analyses.zeroshot.config import ZeroshotConfig
from infoscope.cli.inputs import OfRun, Passes, RemovalFlags, check_writable, open_run_pair
from infoscope.cli.output import Answer, Output, given_command
from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.analyses.probes.labelled_images import LabelledImages
    from infoscope.analyses.removal.ladder import NoFairControl
    from infoscope.analyses.removal.statistics import CodeStatistics
    from infoscope.analyses.removal.variants import Variant
    from infoscope.analyses.zeroshot.classes import Classes
    from infoscope.analyses.zeroshot.embeddings import ClassEmbeddings
    from infoscope.backbones.backbone import Backbone
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.images.source import ImageSource
    from infoscope.runtime.run import Run

CACHE = "class_embeddings.safetensors"
# What --images says for those of the run.
OWN = "run"


@dataclass(frozen=True)
class ClassFlags:
    """The classes an image may belong to, and their embeddings."""

    classes: str | None = None
    """Class names: a text file, one a line; a .csv or .tsv with a column name; a JSON list, or object from folder to
    name; ImageNet's devkit, its meta.mat or a list of its synsets; or labels, the images' own. Default: those of
    --class-embeddings, else labels."""
    class_embeddings: Path | None = None
    """A file of class embeddings in place of a text tower: .safetensors, or .npy with --classes."""
    text_model: str | None = None
    """The model whose text tower embeds the names: a local directory or a hub id. Default: the model itself."""
    text_revision: str | None = None
    """The text model's revision on the hub."""
    templates: str | None = None
    """Prompt templates: clip, siglip, name, or a file, one a line or a JSON list, with {} for the class name. Default:
    the family's own."""

    def __post_init__(self) -> None:
        if self.class_embeddings is not None:
            given = [
                flag
                for flag, value in (("--text-model", self.text_model), ("--templates", self.templates))
                if value is not None
            ]
            if given:
                raise InfoscopeError(
                    f"{given[0]} makes class embeddings, and --class-embeddings names a file of them"
                    "; give one of the two"
                )


@dataclass(frozen=True)
class Zeroshot:
    """Classify images by class names, without training, with and without feature groups of a run.

    For CLIP, SigLIP and SigLIP 2, or with a file of class embeddings for any model. Each removal is compared with the
    untouched model image by image: accuracy, entropy, margin, calibration, flips, and which way confidence goes. The
    result goes into the run, under zeroshot/; an interrupted evaluation resumes when the same command is given again.
    """

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    images: str | None = None
    """The images to classify, as for `infoscope measure`: others than the run was measured on. run takes the run's own
    all the same, and says so (a folder of that name is ./run)."""
    labels: str | None = None
    """What each image is of: folder (its folder's name), column or column:NAME of a data set, a file whose lines are a
    path and a label, ImageNet's devkit, or none (labels are not known, so accuracy is not reported). Default: what
    the images come with."""
    target: tyro.conf.OmitArgPrefixes[ClassFlags] = field(default_factory=ClassFlags)
    removal: tyro.conf.OmitArgPrefixes[RemovalFlags] = field(default_factory=RemovalFlags)
    codes_from: str | None = None
    """Images of which at most 1,000 give the activation mass of features, the removed energy, and the codes for
    --replacement mean and resampled. Default: the run's."""
    out: Path | None = None
    """The folder to write. Default: zeroshot/ in the run."""
    config: tyro.conf.OmitArgPrefixes[ZeroshotConfig] = field(default_factory=ZeroshotConfig)
    of_run: tyro.conf.OmitArgPrefixes[OfRun] = field(default_factory=OfRun)
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished shards are kept; the same command resumes from them"

    def __post_init__(self) -> None:
        if "site" in self.removal.config.sites:
            raise InfoscopeError(
                "--sites site has no meaning here: zero-shot reads the model's own output, which the blocks after the "
                "edit make; leave it out"
            )
        if self.labels == "none" and self.target.classes is None and self.target.class_embeddings is None:
            raise InfoscopeError("--labels none leaves the classes open: give --classes or --class-embeddings")

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.probes.labelled_images import open_labelled
        from infoscope.analyses.zeroshot.measure import measure_zeroshot
        from infoscope.backbones.families import token_set_of
        from infoscope.images.source import open_images
        from infoscope.images.watched import watch
        from infoscope.measurement.identity import check_belongs
        from infoscope.runtime.run import open_run

        run = open_run(self.run_directory)
        out = self.out or run.path / "zeroshot"
        check_writable(out)
        if self.images is None:
            raise InfoscopeError(
                "give --images, the images to test on: on those that the run was measured on, by which its features "
                f"were told apart, a test says less; --images {OWN} takes them all the same, and says so"
            )
        source = run.manifest.images.source if self.images == OWN else self.images
        labelled = None if self.labels == "none" else open_labelled(source, self.labels)
        images = watch(open_images(source) if labelled is None else labelled.images)
        names = self._names(labelled)
        backbone, sae = open_run_pair(run, self.of_run, self.passes, execution=self.passes.execution)
        check_belongs(run, backbone, sae)
        sae = sae.to(backbone.device)
        classes = self._embeddings(names, backbone, out)
        tokens = token_set_of(sae.site)
        statistics = self._statistics(run, backbone, sae, images, token_set=tokens, execution=self.passes.execution)
        variants, unfair = self._variants(run, sae, statistics)
        result = measure_zeroshot(
            backbone,
            sae,
            images,
            None if labelled is None else [labelled.classes[number] for number in labelled.labels.tolist()],
            classes,
            variants,
            self.config,
            run=run,
            run_images=self.images == OWN,
            token_set=tokens,
            statistics=statistics,
            random_seed=self.removal.config.random_seed,
            no_fair_control=unfair,
            out=out,
            command=given_command(),
            execution=self.passes.execution,
        )
        from infoscope.analyses.zeroshot.result import PREDICTIONS_FILE, VARIANTS_FILE, ZEROSHOT_FILE
        from infoscope.cli.zeroshot_summary import print_zeroshot

        return Answer(
            lambda: print_zeroshot(result, out),
            result.to_json,
            {
                "out": out,
                "record": out / ZEROSHOT_FILE,
                "variants": out / VARIANTS_FILE,
                "predictions": out / PREDICTIONS_FILE,
            },
        )

    def _names(self, labelled: LabelledImages | None) -> Classes | None:
        """The classes; None where the file of class embeddings is to name them."""
        from infoscope.analyses.zeroshot.classes import classes_of_labels, read_classes

        if self.target.classes is None and self.target.class_embeddings is not None:
            return None
        if self.target.classes in (None, "labels") and labelled is not None:
            return classes_of_labels(labelled.classes)
        return read_classes(str(self.target.classes))

    def _embeddings(self, names: Classes | None, backbone: Backbone, out: Path) -> ClassEmbeddings:
        """From the file, or from the text tower, whose embeddings are kept beside the result."""
        from infoscope.analyses.zeroshot.classes import read_templates
        from infoscope.analyses.zeroshot.embeddings import read_embeddings
        from infoscope.analyses.zeroshot.text import embed_classes
        from infoscope.runtime.atomic import remove_leftovers_of

        if self.target.class_embeddings is not None:
            return read_embeddings(self.target.class_embeddings, names)
        assert names is not None
        remove_leftovers_of([out / CACHE])
        own = self.target.text_model is None
        return embed_classes(
            self.target.text_model or backbone.name,
            names,
            None if self.target.templates is None else read_templates(self.target.templates),
            cache=out / CACHE,
            device=self.passes.device,
            revision=backbone.revision if own else self.target.text_revision,
        )

    def _statistics(
        self, run: Run, backbone: Backbone, sae: SparseAutoencoder, images: ImageSource, **options: Any
    ) -> CodeStatistics | None:
        """Codes over a sample, where random groups or replacements need them."""
        from infoscope.analyses.removal.statistics import read_statistics
        from infoscope.images.source import open_images

        removal = self.removal.config
        if not removal.random_draws and not removal.ladder and removal.replacement == "zero":
            return None
        source = self.codes_from or run.manifest.images.source
        try:
            sample = images if source == images.name else open_images(source)
        except InfoscopeError as error:
            raise InfoscopeError(
                f"{error} (a sample of the run's images is read; --codes-from names others)"
            ) from error
        resize = self.config.resize or run.manifest.options["resize"]
        return read_statistics(backbone, sae, sample, resize=resize, **options)

    def _variants(
        self, run: Run, sae: SparseAutoencoder, statistics: CodeStatistics | None
    ) -> tuple[list[Variant], list[NoFairControl]]:
        """The variants, and the steps of ladders that have none."""
        import numpy as np

        from infoscope.analyses.removal.energy import Energies
        from infoscope.analyses.removal.groups import named_group
        from infoscope.analyses.removal.variants import plan_variants
        from infoscope.dictionaries.untrained import reconstructs

        mass = np.zeros(sae.features) if statistics is None else statistics.mass
        groups = [named_group(run, name) for name in self.removal.groups]
        removal = self.removal.config
        energies = Energies.of_statistics(sae, statistics, removal.random_seed)
        ladders = [] if energies is None else energies.ladders(groups, removal)
        variants = plan_variants(groups, mass, removal, reconstructs(sae.format), ladders)
        return variants, [step for ladder in ladders for step in ladder.unfair]
