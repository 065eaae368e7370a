"""People in the messages of other packages, where those are installed. Off unless asked for.

Each module makes the messages of one package, which it imports only when it is used.
"""

from pose_node.ros.adapters.publishing import ADAPTERS, Adapters, check_adapters

__all__ = ["ADAPTERS", "Adapters", "check_adapters"]
