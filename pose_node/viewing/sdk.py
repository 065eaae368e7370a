"""The Rerun SDK, which is optional."""

from __future__ import annotations

from typing import Any

from pose_node.errors import ViewError


def load_rerun() -> Any:
    """The module `rerun`.

    Raises:
        ViewError: it is not installed, or not for this NumPy.
    """
    try:
        import rerun
    except ImportError as error:  # also of a pyarrow that was built for another NumPy
        raise ViewError(
            f"the viewer needs the Rerun SDK, which cannot be imported ({error}): "
            "`pip install 'pose-node[view]'`; docs/view.md says what to do with NumPy 1"
        ) from error
    return rerun
