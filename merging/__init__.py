"""Merging CLIP vision models by arithmetic on task vectors.

The package has no user interface of its own besides the command line (:mod:`merging.cli`): it takes
devices, paths and callbacks as arguments, returns values, and raises :class:`~merging.core.errors.MergingError`.
"""

from merging.core.errors import MergingError

__version__ = "0.1.0"
__all__ = ["MergingError", "__version__"]
