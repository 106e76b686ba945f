"""The actions' arguments in the API reference, with their defaults and descriptions; griffe calls it.

An action declares an argument as `command: str = _argument("The command, ...", ...)`. Readers of the
reference want to see `command: str`, and the description below it.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe


class ActionArguments(griffe.Extension):
    """Turns each call of `_argument` into a default and a line of the docstring."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change the classes of actions when the whole package has been read."""
        for item in pkg["protocol.actions"].classes.values():
            lines = []
            for name, attribute in item.attributes.items():
                value = attribute.value
                if isinstance(value, griffe.ExprCall) and str(value.function) == "_argument":
                    keywords = {
                        part.name: part.value
                        for part in value.arguments
                        if isinstance(part, griffe.ExprKeyword)
                    }
                    attribute.value = keywords.get("default")
                    lines.append(f"    {name}: {ast.literal_eval(str(value.arguments[0]))}")
            if lines and item.docstring:
                item.docstring.value += "\n\nArgs:\n" + "\n".join(lines)
