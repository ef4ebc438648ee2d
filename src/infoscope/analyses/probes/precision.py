"""The type in which a gradient head's products are taken."""

from __future__ import annotations

from typing import Literal

import torch

Products = Literal["float32", "bfloat16"]


def product_type(products: Products) -> torch.dtype:
    """As torch has it.

    Example:
        >>> product_type("bfloat16")
        torch.bfloat16
    """
    return torch.float32 if products == "float32" else torch.bfloat16
