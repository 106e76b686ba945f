"""Python signatures from the JSON schemas of tools, for frameworks that read them off functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "null": None}


def type_of(spec: Mapping[str, Any], *, literals: bool = False) -> Any:
    """The Python type of one property of a schema.

    Args:
        spec: The property.
        literals: Whether choices become a `Literal`; otherwise they only have their common type.
    """
    first, *others = spec["type"] if isinstance(spec["type"], list) else [spec["type"]]
    literal: Any = Literal
    hint = literal[tuple(spec["enum"])] if literals and "enum" in spec else _TYPES[first]
    for kind in others:
        hint = hint | _TYPES[kind]
    return hint


def parameters(
    schema: Mapping[str, Any],
    annotate: Callable[[Mapping[str, Any]], Any] = type_of,
    *,
    keyword_only: bool = False,
) -> list[inspect.Parameter]:
    """The parameters of a function that takes a schema's properties as arguments.

    Args:
        schema: The JSON schema of an object.
        annotate: Makes the annotation of a property.
        keyword_only: Whether arguments may only be passed by name.
    """
    kind = inspect.Parameter.KEYWORD_ONLY if keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter(
            name, kind, default=spec.get("default", inspect.Parameter.empty), annotation=annotate(spec)
        )
        for name, spec in schema["properties"].items()
    ]
