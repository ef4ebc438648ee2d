"""Where the bundled things are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class Bundle:
    """What comes with the package; ``CARD.md`` beside them says what each is and how it was made.

    Attributes:
        model: a CLIP vision tower with its projection, in Hugging Face layout.
        sae: an SAE of one of its blocks, as `infoscope train` writes one.
        classes: class embeddings of the ten classes that the model was aligned with.
        subjects: class embeddings of the photographs' subjects.
        photographs: crops of the photographs that are measured, a folder a photograph.
        test_photographs: crops of other photographs, to test on.
    """

    model: Path
    sae: Path
    classes: Path
    subjects: Path
    photographs: Path
    test_photographs: Path


def bundled() -> Bundle:
    """The bundle of this installation.

    Raises:
        InfoscopeError: it lacks some of it.

    Example:
        >>> sorted(path.name for path in bundled().model.iterdir())
        ['config.json', 'model.safetensors']
    """
    data = Path(str(files("infoscope.demo"))) / "data"
    bundle = Bundle(
        model=data / "demo-vit",
        sae=data / "demo-sae",
        classes=data / "classes.safetensors",
        subjects=data / "subjects.safetensors",
        photographs=data / "photographs",
        test_photographs=data / "test-photographs",
    )
    missing = [path.name for path in vars(bundle).values() if not path.exists()]
    if missing:
        raise InfoscopeError(f"{data} lacks {' and '.join(missing)}, which the demo runs on; install infoscope again")
    return bundle
