"""This project's own SAE directory: ``sae.json``, ``sae.safetensors`` and the training curves, ``training.json``."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from infoscope.dictionaries.activations import activation_from_json, activation_tensors, activation_to_json
from infoscope.dictionaries.formats.accounts import Settings
from infoscope.dictionaries.sae import WEIGHTS, SparseAutoencoder, TokenNorm
from infoscope.dictionaries.untrained import KINDS
from infoscope.errors import InfoscopeError, few, shown
from infoscope.runtime.arrays import read_safetensors
from infoscope.runtime.atomic import atomic_write
from infoscope.runtime.json_values import read_json, write_json
from infoscope.runtime.seal import CHECKSUM, check_files, check_record, sums_of, write_sealed
from infoscope.runtime.seal import FILES as SUMS
from infoscope.runtime.typed import Positive, from_json

NAME = "infoscope"
_AGAIN = "train or fetch the SAE again"
FORMAT_VERSION = 2
DESCRIPTION_FILE = "sae.json"
WEIGHTS_FILE = "sae.safetensors"
CURVES_FILE = "training.json"
_KEYS = (
    "format", "format_version", "kind", "d_in", "d_sae", "activation", "token_norm", "site", "training", "sha256",
    CHECKSUM, SUMS,
)  # fmt: skip
FILES = (DESCRIPTION_FILE, WEIGHTS_FILE)
BESIDE = ()


@dataclass(frozen=True)
class _Site:
    """The types of what is read of where an SAE's tokens come from."""

    model: str | None = None
    revision: str | None = None
    sha256: str | None = None
    block: int | None = None
    input_side: Positive | None = None
    reads: str | None = None
    hook: str | None = None
    tokens: str | None = None
    mean_token_norm: float | None = None


@dataclass(frozen=True)
class _Description:
    """The types of what is read of ``sae.json``; the activation and the token norm check their own."""

    d_in: Positive
    d_sae: Positive
    kind: str
    sha256: str | None = None
    site: _Site | None = None


def save_sae(
    sae: SparseAutoencoder,
    directory: str | Path,
    *,
    site: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    curves: Mapping[str, Sequence[int] | Sequence[float]] | None = None,
) -> None:
    """Write an SAE directory.

    Each file appears whole or not at all, ``sae.json`` last; a directory that did not exist before is deleted if
    writing is interrupted. ``sae.json`` holds the hash of the weights, so files of two SAEs are never mistaken for one.

    Args:
        sae: the dictionary.
        directory: where to write it; files of an SAE already there are replaced.
        site: where its tokens come from: model, revision, block, ...; by default the SAE's own site.
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
    is_new = not directory.exists()
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
        beside = [] if curves is None else [CURVES_FILE]
        write_sealed(directory / DESCRIPTION_FILE, description | {"sha256": digest}, beside)
    except BaseException:
        if is_new:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def recognises(names: Collection[str]) -> bool:
    """Whether a directory with files of these names looks like an SAE of this format, whole or broken."""
    # Beside a cfg.json, a weights file of this name belongs to another project.
    alone = WEIGHTS_FILE in names and "cfg.json" not in names
    return DESCRIPTION_FILE in names or alone


def read(directory: Path, name: str) -> SparseAutoencoder:
    """The SAE in a directory, on the CPU.

    Args:
        directory: where the files are.
        name: how the user named it.

    Raises:
        InfoscopeError: a file is missing, damaged or of a newer version, or the two do not belong together.
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
    if spare := sorted(others.keys() - activation_tensors(function).keys()):
        raise InfoscopeError(
            f"SAE {name}: {WEIGHTS_FILE} holds {few(spare)}, which activation {function} does not use, so what it does "
            f"to codes is not known; correct {DESCRIPTION_FILE}, or train or fetch the SAE again"
        )
    declared = (description["d_in"], description["d_sae"])
    if (sae.width, sae.features) != declared:
        raise InfoscopeError(
            f"SAE {name}: {WEIGHTS_FILE} has width {sae.width} and {sae.features} features, but {DESCRIPTION_FILE} "
            f"says {shown(declared[0])} and {shown(declared[1])}: train or fetch it again"
        )
    if digest != description.get("sha256", digest):
        raise InfoscopeError(
            f"SAE {name}: {DESCRIPTION_FILE} was written for other weights than {WEIGHTS_FILE} holds; "
            "train or fetch it again"
        )
    return sae


def _description(path: Path) -> dict[str, Any]:
    value: Any = read_json(path)
    if not isinstance(value, dict) or value.get("format") != NAME:
        raise InfoscopeError(f'{path} does not say "format": "{NAME}"; name an SAE directory')
    check_record(value, path, _AGAIN)
    version = value.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= FORMAT_VERSION:
        text = version if isinstance(version, str) else shown(version)
        raise InfoscopeError(
            f"{path} has format_version {text[:60]}, this infoscope reads up to {FORMAT_VERSION}: "
            "install the version that wrote it"
        )
    if absent := [key for key in ("d_in", "d_sae", "activation") if key not in value]:
        raise InfoscopeError(f"{path} lacks {', '.join(absent)}; train or fetch the SAE again")
    Settings(value, str(path), _KEYS).close()
    if value.setdefault("kind", NAME) not in (NAME, *KINDS):
        raise InfoscopeError(f"{path} is of kind {shown(value['kind'])}; install the version that wrote it")
    for key in ("site", "token_norm"):
        if not isinstance(value.setdefault(key, None), dict | None):
            raise InfoscopeError(f"{path}: {key} is neither null nor an object; train or fetch the SAE again")
    try:
        from_json(_Description, value, other_entries=True)
    except ValueError as error:
        raise InfoscopeError(f"{path}: {error}; train or fetch the SAE again") from error
    return value


def read_training(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``sae.json`` and the training curves, ``training.json``, compared with their checksums.

    Raises:
        InfoscopeError: a file cannot be read, or is damaged.
    """
    description = _description(directory / DESCRIPTION_FILE)
    sums = sums_of(description, directory / DESCRIPTION_FILE)
    check_files(directory, sums, DESCRIPTION_FILE, [CURVES_FILE], _AGAIN)
    curves = read_json(directory / CURVES_FILE)
    if not isinstance(curves, dict):
        raise InfoscopeError(f"{directory / CURVES_FILE} holds no curves; {_AGAIN}")
    return description, curves


def _weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The four weights, and the other tensors."""
    weights = read_safetensors(path, "train or fetch the SAE again")
    if absent := [key for key in WEIGHTS if key not in weights]:
        raise InfoscopeError(f"{path} lacks {', '.join(absent)}; train or fetch the SAE again")
    return {key: weights.pop(key) for key in WEIGHTS}, weights


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
