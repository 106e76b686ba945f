"""Exports: records in the forms of other tools.

    chat        JSON lines of conversations, for training
    inspect     logs of Inspect, for its viewer and its analyses

An exporter takes episodes, as `episodes.py` reads them from records, and writes files. To add one
is to write a module with such a function, and to name it in `mlrcbench.cli_export`.
"""

from mlrcbench.exports.chat import export_chat
from mlrcbench.exports.episodes import Conversation, Episode, read_episodes
from mlrcbench.exports.inspect_log import export_inspect

__all__ = ["Conversation", "Episode", "export_chat", "export_inspect", "read_episodes"]
