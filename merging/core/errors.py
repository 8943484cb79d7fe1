"""Every error that this package raises on purpose.

::

    MergingError
    ├── CheckpointError            a weight file can't be used
    │   ├── CorruptCheckpoint        truncated, not a weight file, header that contradicts the file
    │   ├── UnsafeCheckpoint         would need to run code to be read
    │   ├── MismatchedCheckpoint     other tensor names or shapes than the base model
    │   └── NonFiniteWeights         NaN or infinity in the weights
    ├── SuiteError                 suite.yaml is wrong, or what it names is missing
    │   └── MissingPart              no images or no head where a method or an evaluation needs them
    ├── HubError                   a file can't be downloaded, or uploaded
    ├── SpecError                  unknown method, parameter out of bounds, senseless pair
    ├── DeviceError                the device asked for is not there or ran out of memory
    ├── RunError                   no such run, or not in a state that allows this
    └── Cancelled                  somebody asked for the work to stop

Messages name what failed, what was seen, what was expected and what to do. They hold file *names*, never
absolute paths, so that they can be shown in a browser.
"""

from collections import abc


class MergingError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        lines: what the message shortens, in full, for a reader with room for it such as a terminal.
    """

    def __init__(self, *said: object, lines: abc.Sequence[str] = ()) -> None:
        super().__init__(*said)
        self.lines = tuple(lines)


class CheckpointError(MergingError):
    """A weight file can't be used."""


class CorruptCheckpoint(CheckpointError):
    """The file is truncated, is no weight file, or contradicts itself."""


class UnsafeCheckpoint(CheckpointError):
    """Reading the file would run code stored in it."""


class MismatchedCheckpoint(CheckpointError):
    """Tensor names or shapes differ from the base model's."""


class NonFiniteWeights(CheckpointError):
    """The weights hold NaN or infinity."""


class SuiteError(MergingError):
    """A suite description is wrong, or something it names is missing."""


class MissingPart(SuiteError):
    """The suite lacks images or heads that the work at hand needs."""


class HubError(MergingError):
    """A file of the Hugging Face hub can't be downloaded, or one can't be uploaded."""


class SpecError(MergingError):
    """A merge specification is invalid."""


class DeviceError(MergingError):
    """The device asked for is not available, or ran out of memory."""


class RunError(MergingError):
    """There is no such run, or its state does not allow the action."""


class Cancelled(MergingError):
    """The work was cancelled on request."""
