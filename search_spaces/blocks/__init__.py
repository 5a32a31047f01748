"""Building blocks, one file a family: torch modules whose source ``model.py`` can carry.

A block is an ``nn.Module`` whose constructor takes ``in_channels`` (an int, or a tuple for a
block with several inputs), optionally ``in_size`` (height and width, filled in by ``build``), and
typed keyword arguments; it sets ``out_channels``. The signature is the schema. Nothing here may
depend on values of tensors, so every block exports to ONNX. An argument that a block gets later
stands behind ``*``, with a default: fingerprints leave it out there, and stay what they were.
"""
