"""Probe recipes: named, versioned presets that say what a head reads and how it is trained.

A published score belongs to its recipe, so every constant is here and none is in the heads. `docs/probes.md` says what
each recipe does and how it differs from what was published; `docs/defaults.md` argues what is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from infoscope.analyses.probes.solvers import AdamW, LogisticPath, RidgePath, Sgd
from infoscope.backbones.families import TokenSet
from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class ClassificationInput:
    """What a classification head reads of an image.

    Attributes:
        blocks: of how many of the last blocks the CLS token is read, the earliest first.
        cls: whether CLS tokens are read.
        mean: whether the mean patch token of the last block is read; it comes after the CLS tokens.

    Example:
        >>> both = ClassificationInput(blocks=4, mean=True)
        >>> both.name, both.parts
        ('cls x4 + mean', (('cls', -4), ('cls', -3), ('cls', -2), ('cls', -1), ('mean', -1)))
    """

    blocks: int = 1
    cls: bool = True
    mean: bool = False

    def __post_init__(self) -> None:
        if self.blocks < 1 or not (self.cls or self.mean) or (self.blocks > 1 and not self.cls):
            raise InfoscopeError(f"{self} reads nothing: take CLS tokens of one block or more, the mean patch, or both")

    @property
    def name(self) -> str:
        """As reports name it."""
        cls = f"cls x{self.blocks}" if self.blocks > 1 else "cls"
        return " + ".join([*([cls] if self.cls else []), *(["mean"] if self.mean else [])])

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Each vector read: ``cls`` or ``mean``, and the block counted from the end, -1 the last."""
        cls = tuple(("cls", -back) for back in range(self.blocks, 0, -1)) if self.cls else ()
        return cls + ((("mean", -1),) if self.mean else ())


@dataclass(frozen=True)
class ClassificationRecipe:
    """How images are classified.

    Attributes:
        inputs: those that are tried; the best is chosen together with the strength or learning rate.
        final_norm: whether the model's own final norm is applied to the tokens that are read.
        solver: how the head is trained.
        held_out: share of each class's training images that the choice is made on where no validation images are given.
    """

    inputs: tuple[ClassificationInput, ...]
    final_norm: bool
    solver: LogisticPath | Sgd
    held_out: float = 0.2

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The vectors that are stored for an image, side by side: all that any input reads."""
        blocks = max((each.blocks for each in self.inputs if each.cls), default=0)
        mean = any(each.mean for each in self.inputs)
        return ClassificationInput(max(blocks, 1), cls=blocks > 0, mean=mean).parts

    def columns(self, chosen: ClassificationInput, width: int) -> slice:
        """Where an input is among the stored columns; it is always one stretch of them.

        Args:
            chosen: one of ``inputs``.
            width: length of a token.

        Example:
            >>> recipe = RECIPES["dinov2"].classification
            >>> recipe.columns(ClassificationInput(blocks=1, mean=True), width=384)
            slice(1152, 1920, None)
        """
        start = self.parts.index(chosen.parts[0])
        return slice(start * width, (start + len(chosen.parts)) * width)


@dataclass(frozen=True)
class SegmentationRecipe:
    """How patches are given classes; reads the patch tokens of the last block."""

    final_norm: bool
    solver: LogisticPath | AdamW
    batch_norm: bool = False
    """Whether features go through a batch norm before the linear layer."""
    batch_norm_momentum: float = 0.1
    """Share of a batch in the running moments (torch's default)."""
    batch_norm_epsilon: float = 1e-5
    """Added to the variance (torch's default)."""
    held_out: float = 0.2
    """Share of the training images that the choice is made on where no validation images are given."""
    choice_step: int = 4
    """The choice looks at every so many-th row and column of a held-out mask. Our choice: heads of neighbouring
    strengths differ little, and all pixels under all heads take longer than the training. Test scores are over every
    pixel."""


@dataclass(frozen=True)
class DepthRecipe:
    """How patches are given depths; reads the patch tokens of the last block."""

    final_norm: bool
    solver: RidgePath | AdamW
    cls: bool = False
    """Whether each patch token has the CLS token beside it."""
    bins: int | None = None
    """Depths that are weighed against each other, evenly spread; None predicts a depth itself."""
    upsampling: int = 1
    """Times the patch grid's side at which bins are weighed."""
    bin_floor: float = 0.1
    """Added to each bin's weight before they are made to sum to 1 (DINOv2's code, after AdaBins)."""
    least_depth: float = 0.001
    """Metres; predictions are never nearer (DINOv2's code)."""
    most_depth: float = 10.0
    """Metres; predictions are never farther (DINOv2's code, for NYU)."""
    mean_weight: float = 0.15
    """Of the squared mean of log ratios, beside their variance (DINOv2's code)."""
    log_shift: float = 0.001
    """Metres added before a logarithm is taken (DINOv2's code)."""
    mean_steps: int = 100
    """First steps, in which only the mean of log ratios counts (DINOv2's code)."""
    held_out: float = 0.2
    """Share of the training images that the choice is made on where no validation images are given."""


@dataclass(frozen=True)
class Recipe:
    """A preset for all tasks.

    Attributes:
        name: as ``--recipe`` takes it.
        version: raised whenever a constant or a step changes; a result names both.
        classification: how images are classified.
        segmentation: how patches are given classes.
        depth: how patches are given depths.
    """

    name: str
    version: int
    classification: ClassificationRecipe
    segmentation: SegmentationRecipe
    depth: DepthRecipe

    def at_site(self, token_set: TokenSet = "patch") -> Recipe:
        """The recipe for the SAE's own block, where nothing is run on: what was edited is read, and nothing else.

        A token that no edit reaches would hide what the others lose (method, section 7: the mean patch for
        classification, patches for dense tasks). Inputs of several blocks are left out, and so is the final norm, which
        belongs to the last block's output.

        Args:
            token_set: the tokens that are edited.

        Example:
            >>> [[each.name for each in find_recipe("dinov2").at_site(tokens).classification.inputs]
            ...  for tokens in ("patch", "cls", "all")]
            [['mean'], ['cls'], ['cls', 'cls + mean']]
        """
        if token_set == "all":
            inputs = tuple(each for each in self.classification.inputs if each.blocks == 1)
        else:
            inputs = (ClassificationInput(cls=token_set == "cls", mean=token_set == "patch"),)
        return replace(
            self,
            classification=replace(self.classification, inputs=inputs, final_norm=False),
            segmentation=replace(self.segmentation, final_norm=False),
            depth=replace(self.depth, final_norm=False, cls=self.depth.cls and token_set == "all"),
        )


_SIMPLE = Recipe(
    name="simple",
    version=1,
    classification=ClassificationRecipe(
        inputs=(
            ClassificationInput(),
            ClassificationInput(cls=False, mean=True),
            ClassificationInput(mean=True),
        ),
        final_norm=True,
        solver=LogisticPath(),
    ),
    # Our choice: there are hundreds of patches to an image, so that weak penalties are enough, in steps of ten, and a
    # mean over so many does not need the last digit.
    segmentation=SegmentationRecipe(
        final_norm=True, solver=LogisticPath(strengths=(1e-2, 1e-3, 1e-4, 1e-5), tolerance=1e-5)
    ),
    depth=DepthRecipe(final_norm=True, solver=RidgePath()),
)

_DINOV2 = Recipe(
    name="dinov2",
    version=1,
    classification=ClassificationRecipe(
        inputs=tuple(ClassificationInput(blocks, mean=mean) for blocks in (1, 4) for mean in (False, True)),
        final_norm=True,
        solver=Sgd(),
    ),
    segmentation=SegmentationRecipe(
        final_norm=True,
        batch_norm=True,
        solver=AdamW(
            # One learning rate, as in DINOv2's configuration of the linear head for ADE20K.
            learning_rates=(1e-3,),
            weight_decay=1e-4,
            decay="linear",
            warmup=1500 / 40000,
            warmup_start=1e-6,
            clip=None,
        ),
    ),
    depth=DepthRecipe(
        # DINOv2's hub/depthers.py reads the blocks as they are.
        final_norm=False,
        cls=True,
        bins=256,
        upsampling=4,
        solver=AdamW(
            # One learning rate, as in DINOv2's configurations of its linear depth heads.
            learning_rates=(1e-4,),
            weight_decay=0.01,
            decay="cosine",
            warmup=12800 / 38400,
            warmup_start=1e-3,
            clip=35.0,
            # 38,400 steps of 16 over some 24,000 frames.
            epochs=26,
        ),
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (_SIMPLE, _DINOV2)}

AnyRecipe: TypeAlias = ClassificationRecipe | SegmentationRecipe | DepthRecipe


def find_recipe(name: str) -> Recipe:
    """The preset of that name.

    Raises:
        InfoscopeError: there is none.

    Example:
        >>> find_recipe("simple").version
        1
        >>> find_recipe("best")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --recipe 'best' is not known: choose simple or dinov2
    """
    if name not in RECIPES:
        raise InfoscopeError(f"--recipe {name!r} is not known: choose {' or '.join(RECIPES)}")
    return RECIPES[name]
