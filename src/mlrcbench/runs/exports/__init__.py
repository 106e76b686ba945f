"""Exports: records in the formats of other tools.

    chat        JSON lines of conversations, for training
    inspect     logs of Inspect, for its viewer and its analyses

An exporter takes episodes, which `exported.py` reads from records, and writes files. To add one, write a
module with such a function, and name it in `mlrcbench.cli.export_command`.
"""

from mlrcbench.runs.exports.chat import export_chat
from mlrcbench.runs.exports.exported import Conversation, ExportedEpisode, read_episodes
from mlrcbench.runs.exports.inspect_log import export_inspect

__all__ = ["Conversation", "ExportedEpisode", "export_chat", "export_inspect", "read_episodes"]
