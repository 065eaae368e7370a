"""Stand-ins for message packages that are not installed: the same fields, as strictly typed.

The definitions are those of vision_msgs 4.1.1, of hri_msgs and foxglove_msgs as of 2026 and of
tf2_msgs 0.39. Like generated classes these take their fields by keyword only and refuse unknown
ones, and values of another type. What they cannot show is a message on the wire.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovariance, TransformStamped
from std_msgs.msg import Header

# "[]" and "[18]" as in message definitions; upper case names are constants.
DEFINITIONS: dict[str, dict[str, dict[str, Any]]] = {
    "vision_msgs": {
        "Point2D": {"x": float, "y": float},
        "Pose2D": {"position": "Point2D", "theta": float},
        "BoundingBox2D": {"center": "Pose2D", "size_x": float, "size_y": float},
        "ObjectHypothesis": {"class_id": str, "score": float},
        "ObjectHypothesisWithPose": {"hypothesis": "ObjectHypothesis", "pose": PoseWithCovariance},
        "Detection2D": {
            "header": Header,
            "results": "ObjectHypothesisWithPose[]",
            "bbox": "BoundingBox2D",
            "id": str,
        },
        "Detection2DArray": {"header": Header, "detections": "Detection2D[]"},
    },
    "hri_msgs": {
        "IdsList": {"header": Header, "ids": "str[]"},
        "NormalizedPointOfInterest2D": {"x": float, "y": float, "c": float},
        "NormalizedRegionOfInterest2D": {
            "header": Header,
            **dict.fromkeys(("xmin", "ymin", "xmax", "ymax", "c"), float),
        },
        "Skeleton2D": {
            **{"NOSE": 0, "NECK": 1, "RIGHT_SHOULDER": 2, "RIGHT_ELBOW": 3, "RIGHT_WRIST": 4},
            **{"LEFT_SHOULDER": 5, "LEFT_ELBOW": 6, "LEFT_WRIST": 7, "RIGHT_HIP": 8},
            **{"RIGHT_KNEE": 9, "RIGHT_ANKLE": 10, "LEFT_HIP": 11, "LEFT_KNEE": 12},
            **{"LEFT_ANKLE": 13, "LEFT_EYE": 14, "RIGHT_EYE": 15, "LEFT_EAR": 16, "RIGHT_EAR": 17},
            "header": Header,
            "skeleton": "NormalizedPointOfInterest2D[18]",
        },
    },
    "foxglove_msgs": {
        "Color": dict.fromkeys("rgba", float),
        "Point2": {"x": float, "y": float},
        "KeyValuePair": {"key": str, "value": str},
        "CircleAnnotation": {
            "timestamp": Time,
            "position": "Point2",
            "diameter": float,
            "thickness": float,
            "fill_color": "Color",
            "outline_color": "Color",
            "metadata": "KeyValuePair[]",
        },
        "PointsAnnotation": {
            **{"UNKNOWN": 0, "POINTS": 1, "LINE_LOOP": 2, "LINE_STRIP": 3, "LINE_LIST": 4},
            "timestamp": Time,
            "type": int,
            "points": "Point2[]",
            "outline_color": "Color",
            "outline_colors": "Color[]",
            "fill_color": "Color",
            "thickness": float,
            "metadata": "KeyValuePair[]",
        },
        "TextAnnotation": {
            "timestamp": Time,
            "position": "Point2",
            "text": str,
            "font_size": float,
            "text_color": "Color",
            "background_color": "Color",
            "metadata": "KeyValuePair[]",
        },
        "ImageAnnotations": {
            "timestamp": Time,
            "circles": "CircleAnnotation[]",
            "points": "PointsAnnotation[]",
            "texts": "TextAnnotation[]",
            "metadata": "KeyValuePair[]",
        },
    },
    "tf2_msgs": {"TFMessage": {"transforms": [TransformStamped]}},
}


def _make_class(name: str, definition: dict[str, Any], siblings: dict[str, type]) -> type:
    """A message class."""
    fields = {field: kind for field, kind in definition.items() if not field.isupper()}

    def element(kind: Any) -> type:
        if isinstance(kind, list):
            return element(kind[0])
        return kind if isinstance(kind, type) else {**siblings, "str": str}[kind.partition("[")[0]]

    def is_array(kind: Any) -> bool:
        return isinstance(kind, list) or str(kind).endswith("]")

    def initialise(self: Any, **values: Any) -> None:
        unknown = values.keys() - fields.keys()
        assert not unknown, f"{name} has no field {unknown}"
        for field, kind in fields.items():
            length = 18 if str(kind).endswith("[18]") else 0
            default: Any = element(kind)
            default = [default() for _ in range(length)] if is_array(kind) else default()
            setattr(self, field, values.get(field, default))

    def set_field(self: Any, field: str, value: Any) -> None:
        assert field in fields, f"{name} has no field {field!r}"
        kind = fields[field]
        values = value if is_array(kind) else [value]
        assert isinstance(values, list)
        assert all(isinstance(item, element(kind)) for item in values), (name, field, value)
        if str(kind).endswith("[18]"):
            assert len(values) == 18, (name, field, len(values))
        object.__setattr__(self, field, value)

    constants = {field: kind for field, kind in definition.items() if field.isupper()}
    members = {**constants, "__slots__": list(fields), "__init__": initialise}
    return type(name, (), {**members, "__setattr__": set_field})


def install(monkeypatch: pytest.MonkeyPatch, *packages: str) -> dict[str, ModuleType]:
    """Make packages importable for the length of a test, and all others not."""
    made = {}
    for package, definitions in DEFINITIONS.items():
        # None makes an import fail, whatever is installed.
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.msg", None)
        if package not in packages:
            continue
        module, messages = ModuleType(package), ModuleType(f"{package}.msg")
        classes: dict[str, type] = {}
        for name, definition in definitions.items():
            classes[name] = _make_class(name, definition, classes)
            setattr(messages, name, classes[name])
        monkeypatch.setitem(sys.modules, package, module)
        monkeypatch.setitem(sys.modules, f"{package}.msg", messages)
        made[package] = messages
    return made
