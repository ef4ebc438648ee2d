"""This project's own SAE directory: ``sae.json``, ``sae.safetensors`` and the training curves, ``training.json``."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from infoscope.dictionaries.activation_form import activation_from_json, activation_to_json
from infoscope.dictionaries.kinds import KINDS
from infoscope.dictionaries.sae import WEIGHTS, SparseAutoencoder
from infoscope.dictionaries.token_norm import TokenNorm
from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import atomic_write, read_json, write_json

NAME = "infoscope"
FORMAT_VERSION = 2
DESCRIPTION_FILE = "sae.json"
WEIGHTS_FILE = "sae.safetensors"
CURVES_FILE = "training.json"
FILES = (DESCRIPTION_FILE, WEIGHTS_FILE)


def save_sae(
    sae: SparseAutoencoder,
    directory: str | Path,
    *,
    site: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[int] | Sequence[float]] | None = None,
) -> None:
    """Write an SAE directory.

    Each file appears whole or not at all, ``sae.json`` last; a directory made here goes again if anything stops the
    writing. ``sae.json`` holds the hash of the weights, so files of two SAEs are never taken for one.

    Args:
        sae: the dictionary.
        directory: where to; files of an SAE already there are replaced.
        site: where its tokens come from: model, revision, block, ...; the SAE's own by default.
        training: how it was trained, as JSON.
        curves: the training curves by column, for ``training.json``.

    Raises:
        InfoscopeError: the directory cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from infoscope.dictionaries.activations import TopK
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.zeros(4), torch.eye(4, 3), torch.zeros(3), TopK(1))
        >>> directory = Path(tempfile.mkdtemp()) / "sae"
        >>> save_sae(sae, directory, site={"model": "openai/clip-vit-base-patch16", "block": 10})
        >>> sorted(file.name for file in directory.iterdir())
        ['sae.json', 'sae.safetensors']
    """
    directory = Path(directory)
    made_here = not directory.exists()
    description = {
        "format": NAME,
        "format_version": FORMAT_VERSION,
        **({"kind": sae.format} if sae.format in KINDS else {}),
        "d_in": sae.width,
        "d_sae": sae.features,
        "activation": activation_to_json(sae.activation),
        "token_norm": None if sae.token_norm is None else sae.token_norm.to_json(),
        "site": dict(site) if site is not None else sae.site,
        "training": None if training is None else dict(training),
    }
    try:
        with atomic_write(directory / WEIGHTS_FILE) as temporary:
            try:
                save_file(sae.weights(), temporary)
            except SafetensorError as error:  # how safetensors reports a full disk
                raise OSError(errno.EIO, str(error)) from error
            digest = _sha256(temporary)
        if curves is not None:
            write_json(directory / CURVES_FILE, {column: list(values) for column, values in curves.items()})
        write_json(directory / DESCRIPTION_FILE, description | {"sha256": digest})
    except BaseException:
        if made_here:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def recognises(names: Collection[str]) -> bool:
    """Whether a directory with files of these names looks like an SAE of this format, whole or broken."""
    # A weights file of this name beside another project's cfg.json is that project's.
    alone = WEIGHTS_FILE in names and "cfg.json" not in names
    return DESCRIPTION_FILE in names or alone


def read(directory: Path, name: str) -> SparseAutoencoder:
    """The SAE in a directory, on the CPU.

    Args:
        directory: where the files lie.
        name: how the user named it.

    Raises:
        InfoscopeError: a file is missing, broken, of a newer version, or does not belong to the other.
    """
    for file in FILES:
        if not (directory / file).is_file():
            raise InfoscopeError(f"SAE {name} has no {file}; its writing was interrupted: train or fetch it again")
    description = _description(directory / DESCRIPTION_FILE)
    activation = description["activation"]
    if not isinstance(activation, dict):
        raise InfoscopeError(
            f"{directory / DESCRIPTION_FILE}: activation is not an object with a name"
            ", such as {'name': 'topk', 'k': 32}; correct it or train again"
        )
    weights, others = _weights(directory / WEIGHTS_FILE)
    try:
        function = activation_from_json(activation, others)
        norm = None if description["token_norm"] is None else TokenNorm.from_json(description["token_norm"])
    except InfoscopeError as error:
        raise InfoscopeError(f"{directory / DESCRIPTION_FILE}: {error}; correct it or train again") from error
    digest = _sha256(directory / WEIGHTS_FILE)
    sae = SparseAutoencoder(
        **weights,
        activation=function,
        token_norm=norm,
        name=name,
        format=description["kind"],
        sha256=digest,
        site=description["site"],
    )
    declared = (description["d_in"], description["d_sae"])
    if (sae.width, sae.features) != declared:
        raise InfoscopeError(
            f"SAE {name}: {WEIGHTS_FILE} has width {sae.width} and {sae.features} features, but {DESCRIPTION_FILE} "
            f"says {declared[0]} and {declared[1]}: train or fetch it again"
        )
    if digest != description.get("sha256", digest):
        raise InfoscopeError(
            f"SAE {name}: {DESCRIPTION_FILE} was written for other weights than {WEIGHTS_FILE} holds; "
            "train or fetch it again"
        )
    return sae


def _description(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != NAME:
        raise InfoscopeError(f'{path} does not say "format": "{NAME}"; name an SAE directory')
    version = value.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InfoscopeError(
            f"{path} has format_version {version}, this infoscope reads up to {FORMAT_VERSION}: "
            "install the version that wrote it"
        )
    if absent := [key for key in ("d_in", "d_sae", "activation") if key not in value]:
        raise InfoscopeError(f"{path} lacks {', '.join(absent)}; train or fetch the SAE again")
    if value.setdefault("kind", NAME) not in (NAME, *KINDS):
        raise InfoscopeError(f"{path} is of kind {value['kind']}; install the version that wrote it")
    for key in ("site", "token_norm"):
        if not isinstance(value.setdefault(key, None), dict | None):
            raise InfoscopeError(f"{path}: {key} is neither null nor an object; train or fetch the SAE again")
    return value


def _weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The four weights, and the tensors beside them."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InfoscopeError(
            f"{path} is cut short or not a safetensors file ({error}); train or fetch the SAE again"
        ) from error
    if absent := [key for key in WEIGHTS if key not in weights]:
        raise InfoscopeError(f"{path} lacks {', '.join(absent)}; train or fetch the SAE again")
    return {key: weights.pop(key) for key in WEIGHTS}, weights


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
