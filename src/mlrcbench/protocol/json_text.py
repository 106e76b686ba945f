"""JSON that was cut off."""

from __future__ import annotations

import json
import re

from mlrcbench.text import read_json

# The beginnings of a word, a number or an escape of JSON: what stands after the error where a text was cut.
_BEGINNING = re.compile(r"|tr?u?|fa?l?s?|nu?l?|-|\.|[eE][+-]?|\.\d*[eE][+-]?|\\?u[0-9a-fA-F]{0,4}")


def is_cut_off(text: str) -> bool:
    """Whether a text is the beginning of a JSON object whose end is missing."""
    text = text.strip()
    try:
        read_json(text)
    except json.JSONDecodeError as error:
        in_string = error.msg.startswith("Unterminated string")
        return text.startswith("{") and (in_string or _BEGINNING.fullmatch(text, error.pos) is not None)
    except ValueError:
        pass
    return False
