"""Opening, checking and writing weight files. Nothing here runs code that comes from a file."""

from merging.core.limits import MAX_HEADER_BYTES
from merging.weights.files.checkpoint import Checkpoint, file_fingerprint, open_checkpoint
from merging.weights.files.writing import save_tensors

__all__ = ["MAX_HEADER_BYTES", "Checkpoint", "file_fingerprint", "open_checkpoint", "save_tensors"]
