"""The names of the folders and files that an episode consists of, each defined here once."""

from __future__ import annotations

# In a workspace: what the agent finds, what an evaluation's code can read, and what it leaves to be judged.
STATEMENT = "statement.md"
DATA = "data"
INPUTS = "inputs"
ARTEFACTS = "artefacts"
# In a workspace, a view of outputs that were too long to show; the record keeps them in a folder of the same
# name.
OUTPUTS = "outputs"
RESERVED = (DATA, INPUTS, OUTPUTS, ARTEFACTS)

# In a record, besides OUTPUTS: one folder for each evaluation.
RECORD_FILE = "record.jsonl"
EVALUATIONS = "evaluations"
EVALUATED_WORKSPACE = "workspace"
EVALUATION_OUTPUT = "output.txt"
