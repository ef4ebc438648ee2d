"""The colours of scope classes: one set for the site, the charts, the figures and the notebook.

Every two of them are told apart with normal vision and under simulated protanopia, deuteranopia and tritanopia (a
CIEDE2000 difference of 16 or more on light ground, 13 or more on dark), and each stands out from its ground by 3 to 1
or more. A colour is never the only sign: classes have a shape and a name as well.
"""

from __future__ import annotations

from types import MappingProxyType

# `site.css` has the same ones, as --c-local and so on; a test holds them together.
ON_LIGHT: MappingProxyType[str, str] = MappingProxyType(
    {
        "local": "#0b63a5",
        "diffuse": "#c98200",
        "position-bound": "#9f7be8",
        "global": "#a94400",
        "undefined": "#4a5158",
    }
)
ON_DARK: MappingProxyType[str, str] = MappingProxyType(
    {
        "local": "#5a9fe0",
        "diffuse": "#f3cd6b",
        "position-bound": "#d9cbff",
        "global": "#e0703a",
        "undefined": "#98a2aa",
    }
)
LOCAL, GLOBAL = ON_LIGHT["local"], ON_LIGHT["global"]
# The sides of the threshold and the two ends of CDS: other features than the classes', never coloured beside them.
LOW_CDS, HIGH_CDS = LOCAL, GLOBAL

# The shapes that the site draws, by Vega's names. Undefined is a ring.
SHAPES: MappingProxyType[str, str] = MappingProxyType(
    {
        "local": "circle",
        "diffuse": "square",
        "position-bound": "triangle-up",
        "global": "diamond",
        "undefined": "circle",
    }
)
