"""Networks as they are trained, with their auxiliary heads; the heads count in ``params`` and not in ``macs``."""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.auxiliary import with_auxiliary
from search_spaces.references.inception import googlenet
from search_spaces.references.reference import Row, references


def googlenet_auxiliary() -> Architecture:
    """GoogLeNet with heads behind inception (4a) and (4d), the third and the sixth module."""
    plain = googlenet()
    modules = [number for number, node in enumerate(plain.nodes, 1) if node.block == "inception_block"]
    return with_auxiliary(plain, (modules[2], modules[5]))


ROWS: tuple[Row, ...] = (
    (
        "googlenet_auxiliary",
        "GoogLeNet as it is trained, with two auxiliary classifiers",
        "1409.4842",
        13_378_280,
        1_582_671_872,
        googlenet_auxiliary,
    ),
)
REFERENCES = references("inception", ROWS)
