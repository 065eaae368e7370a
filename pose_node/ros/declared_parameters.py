"""Parameters of a node as a dataclass: name, default, meaning, range and when each may change.

ROS is imported only to declare them, so that the rest works without it.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node
    from rclpy.parameter import Parameter


@dataclass(frozen=True)
class Rule:
    """What a parameter means and accepts.

    Attributes:
        description: one line for people.
        minimum, maximum, step: the range of a number; step 0 means any number between.
        pattern: regular expression that a text, or every text of a list, must match.
        expected: the pattern in words.
        fixed: may change only while the node is not active.
        at_start: is read once, when the process starts.
    """

    description: str
    minimum: float = 0
    maximum: float = 0
    step: int = 0
    pattern: str = ""
    expected: str = ""
    fixed: bool = False
    at_start: bool = False


def parameter(default: Any, description: str, **rule: Any) -> Any:
    """A field of `Parameters`: its default and the rest of its `Rule`."""
    return field(default=default, metadata={"rule": Rule(description, **rule)})


@dataclass(frozen=True)
class Parameters:
    """The parameters of a node; refuses wrong values with a ValueError that says what is right.

    Every field of a subclass is made by `parameter`. All may change while the node runs and hold
    from the next frame on, except those whose description says otherwise.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item.name, getattr(self, item.name), item.default, item.metadata["rule"])

    def changed(self, values: dict[str, Any], *, active: bool) -> Self:
        """A copy with new values.

        Args:
            values: new values by name; names that are not parameters of this class are ignored.
            active: the node is at work, so that fixed parameters must keep their value.

        Raises:
            ValueError: a value is wrong, or may not change now.
        """
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        known = {
            name: _to_names(value) if isinstance(defaults[name], tuple) else value
            for name, value in values.items()
            if name in defaults
        }
        new = dataclasses.replace(self, **known)
        if active and new.fixed_values() != self.fixed_values():
            names = {name for name in known if getattr(new, name) != getattr(self, name)}
            raise ValueError(
                f"{', '.join(sorted(names & self.fixed_values().keys()))} cannot change while the "
                "node is active: deactivate the node first, for example with "
                "`ros2 lifecycle set NODE deactivate`"
            )
        return new

    def fixed_values(self) -> dict[str, Any]:
        """The values that the network and the topics are built from."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.metadata["rule"].fixed
        }

    def to_ros(self) -> list[Parameter[Any]]:
        """The values as overrides for a node that shall begin with them."""
        from rclpy.parameter import Parameter

        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return [
            Parameter(name, value=list(value) if isinstance(value, tuple) else value)
            for name, value in values.items()
        ]

    @classmethod
    def declare(cls, node: Node) -> Self:
        """Declare all parameters on a node, with description and range, and read them.

        Raises:
            ValueError: a value given on the command line or in a file is wrong.
        """
        from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

        values = {}
        for item in dataclasses.fields(cls):
            default = list(item.default) if isinstance(item.default, tuple) else item.default
            try:
                declared = node.declare_parameter(item.name, default, _descriptor(item))
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                raise ValueError(f"{describe(item)}: {error}") from error
            values[item.name] = declared.value
        return cls().changed(values, active=False)


def describe(item: dataclasses.Field[Any]) -> str:
    """One line for people: name, type and accepted values of one parameter."""
    rule: Rule = item.metadata["rule"]
    accepted = _type_name(item.default)
    if rule.maximum:
        accepted += f", {rule.minimum} to {rule.maximum}"
        accepted += f" in steps of {rule.step}" if rule.step > 1 else ""
    elif rule.expected:
        accepted += f", {rule.expected}"
    return f"{item.name} ({accepted})"


def to_yaml(parameters: type[Parameters], *head: str) -> str:
    """A parameter file with every parameter, its meaning, range and default.

    Args:
        parameters: whose.
        head: comments that stand first.
    """
    lines = [*(f"# {line}" for line in head), "/**:", "  ros__parameters:"]
    for item in dataclasses.fields(parameters):
        rule: Rule = item.metadata["rule"]
        lines += [f"    # {rule.description}", f"    # {describe(item)}; {_when(rule)}"]
        lines += [f"    {item.name}: {_yaml_value(item.default)}"]
    return "\n".join(lines) + "\n"


def to_markdown(parameters: type[Parameters]) -> str:
    """The table of parameters for the README."""
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for item in dataclasses.fields(parameters):
        rule: Rule = item.metadata["rule"]
        accepted = describe(item).removeprefix(f"{item.name} ").strip("()").replace("|", "\\|")
        default = _yaml_value(item.default)
        lines.append(
            f"| `{item.name}` | `{default}` | {rule.description} *{accepted}; {_when(rule)}* |"
        )
    return "\n".join(lines) + "\n"


def _yaml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{name}"' for name in value) + "]"
    if value == "":
        return '""'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _to_names(value: Any) -> Any:
    """A list of names as a tuple; ROS gives an empty list as no value at all. Others stay wrong."""
    if value is None or value == []:
        return ("",)
    return tuple(value) if isinstance(value, list) else value


def _type_name(default: object) -> str:
    return "list of str" if isinstance(default, tuple) else type(default).__name__


def _when(rule: Rule) -> str:
    if rule.at_start:
        return "read once at the start"
    return "fixed while active" if rule.fixed else "live"


def _check(name: str, value: Any, default: Any, rule: Rule) -> None:
    """Refuse a value of the wrong type, out of range or of the wrong form."""
    if type(value) is not type(default):
        hint = f", write {value}.0" if (type(value), type(default)) == (int, float) else ""
        raise ValueError(f"{name} must be a {_type_name(default)}, got {value!r}{hint}")
    if rule.maximum and not rule.minimum <= value <= rule.maximum:
        raise ValueError(f"{name} must be {rule.minimum} to {rule.maximum}, got {value}")
    if rule.step and (value - rule.minimum) % rule.step:
        raise ValueError(f"{name} must be a multiple of {rule.step}, got {value}")
    texts = value if isinstance(value, tuple) else (value,)
    if rule.pattern and not all(
        isinstance(text, str) and re.fullmatch(rule.pattern, text, re.ASCII) for text in texts
    ):
        raise ValueError(f"{name} must be {rule.expected}, got {value!r}")


def _descriptor(item: dataclasses.Field[Any]) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    rule: Rule = item.metadata["rule"]
    descriptor = ParameterDescriptor(
        description=rule.description,
        additional_constraints=f"{describe(item)}; {_when(rule)}",
        read_only=rule.at_start,
    )
    if rule.maximum and isinstance(item.default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(rule.minimum), to_value=int(rule.maximum), step=rule.step)
        ]
    elif rule.maximum:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=rule.minimum, to_value=rule.maximum, step=0.0)
        ]
    # An empty list has no type in ROS, and `cameras: []` must be possible.
    descriptor.dynamic_typing = isinstance(item.default, tuple)
    return descriptor
