"""The errors of this package. Every one says what was expected, what came and what to do.

::

    PoseNodeError
    ├── ImageError         an image message, file or buffer that cannot be used
    ├── CalibrationError   a camera calibration that is missing, damaged or of another image
    ├── ClusterError       a Ray cluster that is missing, cannot be reached or failed
    ├── CheckpointError    a model file that is missing, damaged, foreign or hostile
    ├── FetchError         a download that failed or is not what was promised
    ├── ExerciseError      an exercise that is unknown, defined wrongly or not for the skeleton
    ├── DeviceError        a device that is asked for but not there
    ├── SourceError        a video, camera or folder that cannot be read
    └── ViewError          a viewer that is not installed or cannot be started
"""

from __future__ import annotations

from pose_node.source_names import shown_name


class PoseNodeError(Exception):
    """Base class: catch this to catch everything that this package raises on purpose.

    Args:
        message: what was expected and what came; names in it are shown as `shown_name` has it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown_name(message))


class ImageError(PoseNodeError):
    """An image that cannot be used.

    Args:
        message: what was expected and what came.
        kind: a short, constant name of the fault, by which repeated ones are counted and throttled,
            for example ``"unknown encoding"``.
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class CalibrationError(PoseNodeError):
    """A camera calibration that is missing, damaged or not that of the image."""


class CheckpointError(PoseNodeError):
    """A model file that is missing, damaged, of a foreign kind or hostile."""


class FetchError(PoseNodeError):
    """A download that failed or whose content is not what was promised."""


class DeviceError(PoseNodeError):
    """A device that was asked for and cannot be used."""


class SkeletonError(PoseNodeError):
    """A skeleton of an unknown name, or a file of one that is wrong or hostile."""


class SourceError(PoseNodeError):
    """A video, camera, image, folder or bag that cannot be read."""


class OutputError(PoseNodeError):
    """A file or folder of results that cannot be written."""


class ExerciseError(PoseNodeError):
    """An exercise that is unknown, defined wrongly, or of joints that the skeleton lacks."""


class ViewError(PoseNodeError):
    """A viewer that is not installed or cannot be started."""


class ClusterError(PoseNodeError):
    """A Ray cluster that is not installed, cannot be reached or failed."""
