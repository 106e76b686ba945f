"""The canary: a fixed text in everything of a benchmark that could get into a training corpus.

Somebody who collects training data can leave out every document that has it; somebody who doubts that a model
was not trained on the benchmark can ask the model to complete it.
"""

from __future__ import annotations

CANARY = "mlrcbench canary 6e671912-64f7-4247-b917-f9fda7a581bc"
FILE = "canary.txt"
SENTENCE = f"This is a part of a benchmark, which must not be in training data. {CANARY}\n"


def marked(statement: str) -> str:
    """A statement with the canary as its last line, in a comment of Markdown."""
    return f"{statement.rstrip()}\n\n<!-- {SENTENCE.rstrip()} -->\n"
