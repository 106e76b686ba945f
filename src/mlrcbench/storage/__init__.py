"""What lies on disk: bounded trees, the workspace, the record.

- Holds: walking and copying of hostile trees, temporary folders, the agent's workspace, the record
  of an episode; below `snapshots/` the state of an episode as a value.
- May import: `score`, `text`, `errors`.
- Start reading at `workspace.py` and `record.py`; `layout.py` has the names of all folders.
"""
