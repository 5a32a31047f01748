"""Published networks with more than one output: GoogLeNet as it is trained, OverFeat with its box regressor.

Auxiliary heads count in ``params`` and not in ``macs``.
"""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.auxiliary import with_auxiliary
from search_spaces.references.alexnet import overfeat
from search_spaces.references.inception import googlenet
from search_spaces.references.reference import Row, references
from search_spaces.tasks import with_task


def googlenet_auxiliary() -> Architecture:
    """GoogLeNet with heads behind inception (4a) and (4d), the third and the sixth module."""
    plain = googlenet()
    modules = [number for number, node in enumerate(plain.nodes, 1) if node.block == "inception_block"]
    return with_auxiliary(plain, (modules[2], modules[5]))


def overfeat_localisation() -> Architecture:
    """OverFeat's fast model with a regressor of 4096 and 1024 hidden units on the last pool: one box for all."""
    return with_task(overfeat(), "localisation", reduction=0, widths=(4096, 1024))


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
LOCALISATION: tuple[Row, ...] = (
    (
        "overfeat_fast_localisation",
        "OverFeat, fast model, with a box regressor",
        "1312.6229",
        None,
        None,
        overfeat_localisation,
    ),
)
REFERENCES = {**references("inception", ROWS), **references("alexnet", LOCALISATION)}
