"""BLOCKS, SPACES and REFERENCES: explicit dicts, plus what installed plug-ins bring through entry points.

A plug-in names its objects in the groups ``nas.blocks`` (a class), ``nas.spaces`` (a Space) and ``nas.references`` (a
Reference) of its package. The dicts are filled when they are first read, so that spaces and references can be had
without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from search_spaces.space import Space, SpaceConfig

if TYPE_CHECKING:
    from torch import nn

    from search_spaces.references.reference import Reference

    BLOCKS: dict[str, type[nn.Module]]
    SPACES: dict[str, Space]
    REFERENCES: dict[str, Reference]

Item = TypeVar("Item")
log = logging.getLogger(__name__)
PLUGIN_ERRORS: dict[str, str] = {}
"""Entry points that could not be loaded, and why: one bad plug-in must not take the others with it."""


class UnknownNameError(KeyError):
    """A name that is not in the catalogue. Says what was allowed."""

    def __str__(self) -> str:
        return str(self.args[0])


def _own_blocks() -> dict[str, type[nn.Module]]:
    from search_spaces.blocks import (
        anchored,
        auxiliary,
        convolution,
        dense,
        enet,
        fire,
        fractal,
        heads,
        inception,
        inception_resnet,
        lenet,
        mbconv,
        mlpconv,
        nasbench,
        nasnet,
        perceptron,
        pooling,
        recurrent,
        residual,
        separable,
    )

    return {
        "conv_norm_act": convolution.ConvNormAct,
        "norm_act": convolution.NormAct,
        "pool": convolution.Pool,
        "local_response_norm": convolution.LocalResponseNorm,
        "dropout": convolution.Dropout,
        "add": convolution.Add,
        "concat": convolution.Concat,
        "classifier": convolution.Classifier,
        "basic_block": residual.BasicBlock,
        "bottleneck_block": residual.BottleneckBlock,
        "preact_block": residual.PreActBlock,
        "preact_bottleneck": residual.PreActBottleneck,
        "inverted_residual": mbconv.InvertedResidual,
        "inception_block": inception.InceptionBlock,
        "nasnet_cell": nasnet.NasnetCell,
        "stochastic_pool": pooling.StochasticPool,
        "colour_transform": mlpconv.ColourTransform,
        "mlpconv": mlpconv.MlpConv,
        "sparse_conv": lenet.SparseConv,
        "subsample": lenet.Subsample,
        "flattened_conv": inception.FlattenedConv,
        "naive_inception": inception.NaiveInception,
        "inception_a": inception.InceptionA,
        "inception_b": inception.InceptionB,
        "inception_c": inception.InceptionC,
        "inception_reduction": inception.InceptionReduction,
        "flattened_reduction": inception.FlattenedReduction,
        "inception_resnet_a": inception_resnet.InceptionResnetA,
        "inception_resnet_b": inception_resnet.InceptionResnetB,
        "inception_resnet_c": inception_resnet.InceptionResnetC,
        "inception_resnet_reduction": inception_resnet.InceptionResnetReduction,
        "dense_block": dense.DenseBlock,
        "dense_transition": dense.DenseTransition,
        "fractal_block": fractal.FractalBlock,
        "fire": fire.Fire,
        "depthwise_separable": separable.DepthwiseSeparable,
        "xception_block": separable.XceptionBlock,
        "fused_inverted_residual": mbconv.FusedInvertedResidual,
        "recurrent_stage": recurrent.RecurrentStage,
        "flatten_dense": perceptron.FlattenDense,
        "convolutional_classifier": perceptron.ConvolutionalClassifier,
        "radial_basis_classifier": lenet.RadialBasisClassifier,
        "anchored_conv": anchored.AnchoredConv,
        "padded_concat": anchored.PaddedConcat,
        "nasbench101_cell": nasbench.Nasbench101Cell,
        "nasbench201_cell": nasbench.Nasbench201Cell,
        "nasbench201_reduction": nasbench.Nasbench201Reduction,
        "enet_initial": enet.EnetInitial,
        "enet_bottleneck": enet.EnetBottleneck,
        "enet_downsampling": enet.EnetDownsampling,
        "enet_upsampling": enet.EnetUpsampling,
        "max_unpool": enet.MaxUnpool,
        "segmentation_head": heads.SegmentationHead,
        "upsampled_classifier": heads.UpsampledClassifier,
        "box_regressor": heads.BoxRegressor,
        "auxiliary_classifier": auxiliary.AuxiliaryClassifier,
    }


def _own_spaces() -> dict[str, Space]:
    from search_spaces.spaces import (
        anchored,
        composed,
        efficientnet,
        inception,
        mbconv,
        nasbench,
        nasnet,
        neighbourhood,
        residual,
        segmentation,
    )

    return {
        "residual": residual.SPACE,
        "mbconv": mbconv.SPACE,
        "inception": inception.SPACE,
        "nasnet": nasnet.SPACE,
        "efficientnet": efficientnet.SPACE,
        "chain": anchored.SPACE,
        "nasbench101": nasbench.NASBENCH101,
        "nasbench201": nasbench.NASBENCH201,
        "macro": nasbench.MACRO,
        "composed": composed.SPACE,
        "neighbourhood": neighbourhood.SPACE,
        "segmentation": segmentation.SPACE,
    }


def _own_references() -> dict[str, Reference]:
    from search_spaces.references import (
        alexnet,
        auxiliary,
        darts,
        densenet,
        efficientnet,
        enet,
        fractalnet,
        inception,
        lenet,
        mobilenet,
        nasbench,
        nasnet,
        nin,
        residual,
        squeezenet,
        vgg,
        xception,
    )

    return {
        **lenet.REFERENCES,
        **alexnet.REFERENCES,
        **vgg.REFERENCES,
        **nin.REFERENCES,
        **inception.REFERENCES,
        **residual.REFERENCES,
        **densenet.REFERENCES,
        **fractalnet.REFERENCES,
        **squeezenet.REFERENCES,
        **xception.REFERENCES,
        **mobilenet.REFERENCES,
        **efficientnet.REFERENCES,
        **nasnet.REFERENCES,
        **darts.REFERENCES,
        **nasbench.REFERENCES,
        **enet.REFERENCES,
        **auxiliary.REFERENCES,
    }


def _is_block(item: object) -> str | None:
    from torch import nn

    from search_spaces.signature import BlockError, arguments

    if not (isinstance(item, type) and issubclass(item, nn.Module)):
        return f"a {type(item).__name__}; allowed: a class of torch.nn.Module"
    try:
        arguments(item)
    except BlockError as error:
        return str(error)
    return None


def _is_space(item: object) -> str | None:
    return None if isinstance(item, Space) else f"a {type(item).__name__}; allowed: a search_spaces.space.Space"


def _is_reference(item: object) -> str | None:
    from search_spaces.references.reference import Reference

    return None if isinstance(item, Reference) else f"a {type(item).__name__}; allowed: a Reference"


def _with_plugins(own: dict[str, Item], group: str, wrong: Callable[[object], str | None]) -> dict[str, Item]:
    """``own`` and the entry points of ``group``, in order of their names; a name of ours is never replaced."""
    merged = dict(own)
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        reason = _load(point, merged, wrong)
        if reason is not None:
            PLUGIN_ERRORS[f"{group}:{point.name}"] = reason
            log.error("plug-in %s = %s of group %s left out: %s", point.name, point.value, group, reason)
    return merged


def _load(point: EntryPoint, into: dict[str, Any], wrong: Callable[[object], str | None]) -> str | None:
    if point.name in into:
        return f"the name {point.name!r} is taken"
    try:
        item = point.load()
    except Exception as error:  # a plug-in may raise anything while it is imported
        return f"{type(error).__name__}: {error}"
    reason = wrong(item)
    if reason is None:
        into[point.name] = item
    return reason


@lru_cache(maxsize=1)
def _blocks() -> dict[str, type[nn.Module]]:
    return _with_plugins(_own_blocks(), "nas.blocks", _is_block)


@lru_cache(maxsize=1)
def _spaces() -> dict[str, Space]:
    return _with_plugins(_own_spaces(), "nas.spaces", _is_space)


@lru_cache(maxsize=1)
def _references() -> dict[str, Reference]:
    return _with_plugins(_own_references(), "nas.references", _is_reference)


def __getattr__(name: str) -> Any:
    fill = {"BLOCKS": _blocks, "SPACES": _spaces, "REFERENCES": _references}.get(name)
    if fill is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return fill()


def reload_plugins() -> None:
    """Forget the dicts, so that plug-ins installed since are found."""
    PLUGIN_ERRORS.clear()
    for fill in (_blocks, _spaces, _references):
        fill.cache_clear()


def unknown(what: str, name: str, allowed: Mapping[str, object]) -> str:
    """Message for a name that is not there: what was allowed, and what may have been meant."""
    near = get_close_matches(name[:100], allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"no {what} is called {name[:100]!r}{hint}; allowed: {', '.join(sorted(allowed))}"


def block(name: str) -> type[nn.Module]:
    """The block called ``name``. Raises UnknownNameError."""
    return _get("block", name, _blocks())


def space(name: str) -> Space:
    """The space called ``name``. Raises UnknownNameError."""
    return _get("space", name, _spaces())


def reference(name: str) -> Reference:
    """The published network called ``name``, however it is spelled: "resnet50" is also "ResNet-50" and "resnet-50".

    Raises UnknownNameError.
    """
    items = _references()
    if name not in items:
        name = {spelled(known): known for known in items}.get(spelled(name), name)
    return _get("reference", name, items)


def spelled(name: str) -> str:
    """A name without what spellings differ in: case, and anything but letters and digits."""
    return "".join(c for c in name.lower() if c.isalnum())


def configured(data: Mapping[str, Any]) -> tuple[Space, SpaceConfig]:
    """Space and config of ``{"name": "mbconv", "stages": 4, ...}``.

    Raises UnknownNameError, or pydantic's ValidationError.
    """
    found = space(str(data.get("name", "")))
    settings = dict(data)
    if "name" not in found.config.model_fields:
        del settings["name"]
    return found, found.config.model_validate(settings)


def block_schema(name: str) -> dict[str, Any]:
    """Description of a block for JSON: documentation, number of inputs, schema of its arguments.

    Raises UnknownNameError.
    """
    from search_spaces.signature import schema

    return schema(name, block(name))


def _get(what: str, name: str, items: dict[str, Item]) -> Item:
    if name not in items:
        raise UnknownNameError(unknown(what, name, items))
    return items[name]
