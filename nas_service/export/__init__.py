"""The take-home package of a trained network, and its certificate."""

from nas_service.export.content import (
    DataDescription,
    ExportError,
    FormatReport,
    HeldOut,
    Latency,
    Manifest,
    PackageContent,
)
from nas_service.export.package import write_package, write_zip

__all__ = [
    "DataDescription",
    "ExportError",
    "FormatReport",
    "HeldOut",
    "Latency",
    "Manifest",
    "PackageContent",
    "write_package",
    "write_zip",
]
