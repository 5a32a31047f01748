"""From a name to the arrays of one part: built-in data sets, registered sources, plug-ins.

Built in: ``digits`` (1,797 images of 8 × 8, in scikit-learn), and, where the files are, ``fashion-mnist`` (Debian's
package dataset-fashion-mnist), ``mnist``, ``cifar10`` and ``cifar100`` in the folders FOLDERS of a data root. Made of
the first two: ``digit-scenes`` and ``garment-scenes`` (segmentation), ``digit-boxes`` and ``garment-boxes``
(localisation).
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from workers.dataset_spec import DataError, DatasetSource, DatasetSpec, Format, Part, SceneSpec, Stamp, inside, stamp
from workers.datasets import arrays, cifar, folders, idx, masks, npz, scenes
from workers.datasets.arrays import Arrays

SYSTEM_ROOT = Path("/usr/share/datasets")
"""Where Debian's packages put data sets; always allowed."""
FOLDERS: dict[str, tuple[Format, str]] = {
    "fashion-mnist": ("idx", "fashion-mnist"),
    "mnist": ("idx", "mnist"),
    "cifar10": ("cifar10", "cifar-10-batches-bin"),
    "cifar100": ("cifar100", "cifar-100-binary"),
}
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LABEL_NAMES = {"fashion-mnist": FASHION}
SCENES = {
    "digit-scenes": SceneSpec(),
    "digit-boxes": SceneSpec(task="localisation"),
    "garment-scenes": SceneSpec(objects="garments", size=64),
    "garment-boxes": SceneSpec(objects="garments", task="localisation", size=64),
}
OBJECTS = {"digits": "digits", "garments": "fashion-mnist"}
"""The data set whose images are put on a canvas."""
GROUP = "nas.datasets"
Roots = Sequence[str | Path]


def allowed_roots(roots: Roots) -> list[str | Path]:
    """The configured folders and the system's."""
    return [*roots, SYSTEM_ROOT]


def builtin(roots: Roots) -> dict[str, DatasetSource]:
    """Built-in and plug-in data sets that are here, by name. A configured folder comes before the system's."""
    found = {"digits": DatasetSource(name="digits", format="digits", path="")}
    for name, (kind, folder) in FOLDERS.items():
        present = [Path(root) / folder for root in allowed_roots(roots) if (Path(root) / folder).is_dir()]
        if present:
            found[name] = DatasetSource(name=name, format=kind, path=str(present[0]))
    for name, spec in SCENES.items():
        if OBJECTS[spec.objects] in found:
            found[name] = DatasetSource(name=name, format="scenes", scenes=spec)
    for name in plugin_names():
        found.setdefault(name, DatasetSource(name=name, format="plugin", path=name))
    return found


@lru_cache(maxsize=1)
def plugin_names() -> tuple[str, ...]:
    """Names of the installed data set plug-ins; looked up once a process (a scan takes 8 ms)."""
    return tuple(sorted(entry_points(group=GROUP).names))


def source_of(spec: DatasetSpec, roots: Roots, source: DatasetSource | None = None) -> DatasetSource:
    """The source that a spec names: ``source`` where given, else a built-in one. Raises DataError."""
    if source is not None:
        return source
    known = builtin(roots)
    if spec.name not in known:
        missing = FOLDERS.get(spec.name)
        hint = f"; its folder {missing[1]!r} is in none of {[str(r) for r in allowed_roots(roots)]}" if missing else ""
        raise DataError(f"data set {spec.name!r} is not here; allowed: {sorted(known)}{hint}")
    return known[spec.name]


def source_stamp(source: DatasetSource, roots: Roots) -> Stamp:
    """Stamp of every file of both parts; empty for digits and plug-ins. Raises DataError."""
    if source.format in ("digits", "plugin"):
        return ()
    if source.scenes is not None:
        return source_stamp(_objects(source.scenes, roots), roots)
    path = inside(source.path, allowed_roots(roots))
    return stamp(_files(source.format, path, "train", roots) + _files(source.format, path, "test", roots))


def read(source: DatasetSource, part: Part, roots: Roots) -> Arrays:
    """Images and labels of one part, checked. Where there is no test part, HELD_OUT of each class becomes it.

    Raises DataError.
    """
    if source.scenes is not None:
        return scenes.draw(source.scenes, read(_objects(source.scenes, roots), part, roots), part)
    whole = _read(source, "train", roots)
    assert whole is not None, "every reader raises where the training part is missing"
    own_test = _has_test(source, roots)
    classes = _classes(whole, f"{source.name} (train)", least=2 if own_test else 3)
    names = whole.label_names or LABEL_NAMES.get(source.name, ())
    names = names[:classes] if len(names) >= classes else tuple(str(label) for label in range(classes))
    if own_test:
        if part == "train":
            return replace(whole, label_names=names)
        test = _read(source, "test", roots)
        assert test is not None, "own_test says so"
        _classes(test, f"{source.name} (test)", least=0, classes=classes)
        if test.images.shape[1:] != whole.images.shape[1:]:
            raise DataError(
                f"{source.name}: test images of shape {test.images.shape[1:]}; "
                f"allowed: {whole.images.shape[1:]} as in training"
            )
        kinds = test.images.dtype, whole.images.dtype
        if kinds[0] != kinds[1] and (kinds[1] == np.uint8 or source.format in ("folder", "masks")):
            raise DataError(
                f"{source.name}: test images as {kinds[0]}, those of training as {kinds[1]} (uint8: integers of 0 to "
                "255); allowed: one kind"
            )
        return replace(test, images=test.images.astype(whole.images.dtype), label_names=names)
    kept, held = whole.divided(arrays.HELD_OUT, seed=0)
    return replace(whole, label_names=names).part(kept if part == "train" else held)


def _classes(found: Arrays, where: str, least: int, classes: int | None = None) -> int:
    """Number of classes, checked. Names that a reader found are all classes there are, even if some never occur."""
    if found.task == "segmentation":
        return arrays.check_pixels(found.labels, where, classes or len(found.label_names) or None)
    return arrays.check_classes(found.strata, where, least, classes)


def _objects(spec: SceneSpec, roots: Roots) -> DatasetSource:
    """Where the images of a scene's objects lie. Raises DataError."""
    return source_of(DatasetSpec(name=OBJECTS[spec.objects]), roots)


def _files(kind: Format, path: Path, part: Part, roots: Roots) -> list[Path]:
    allowed = allowed_roots(roots)
    if kind == "idx":
        return idx.files(path, part, allowed)
    if kind in ("cifar10", "cifar100"):
        return cifar.files(path, part, allowed, fine=kind == "cifar100")
    if kind == "folder":
        return folders.files(path, part, allowed)
    if kind == "masks":
        return masks.files(path, part, allowed)
    return [path] if part == "train" else []


def _has_test(source: DatasetSource, roots: Roots) -> bool:
    if source.format == "digits":
        return False
    if source.format == "plugin":
        return npz.names(list(_plugin(source.path)), "test", source.name) is not None
    path = inside(source.path, allowed_roots(roots))
    if source.format == "npz":
        return npz.has_test(path)
    return bool(_files(source.format, path, "test", roots))


def _read(source: DatasetSource, part: Part, roots: Roots) -> Arrays | None:
    if source.format == "digits":
        return _digits()
    if source.format == "plugin":
        return npz.from_mapping(_plugin(source.path), part, f"data set plug-in {source.path!r}")
    allowed = allowed_roots(roots)
    path = inside(source.path, allowed)
    if source.format != "npz" and not path.is_dir():
        raise DataError(f"{source.path}: not a folder; allowed for format {source.format!r}: a folder")
    if source.format == "idx":
        return idx.read(path, part, allowed)
    if source.format in ("cifar10", "cifar100"):
        return cifar.read(path, part, allowed, fine=source.format == "cifar100")
    if source.format == "folder":
        return folders.read(path, part, allowed, source.size)
    if source.format == "masks":
        return masks.read(path, part, allowed)
    return npz.read(path, part, allowed)


def _digits() -> Arrays:
    """UCI's optical digits, 0 to 16, from scikit-learn's file; ``import sklearn.datasets`` alone takes 2.8 s."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("data set 'digits' needs scikit-learn, which is not installed")
    with gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return arrays.checked(table[:, :-1].reshape(-1, 8, 8), table[:, -1], "digits")


@lru_cache(maxsize=1)
def _plugin(name: str) -> dict[str, object]:
    """What the plug-in's function returns. Raises DataError when there is no such plug-in or it fails."""
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise DataError(f"no data set plug-in {name!r}; allowed: {list(plugin_names())}")
    try:
        made = found[0].load()()
        return dict(made)
    except Exception as error:  # a plug-in may raise anything; whatever it is, the data set is what failed
        raise DataError(f"data set plug-in {name!r} failed: {type(error).__name__}: {error}") from error
