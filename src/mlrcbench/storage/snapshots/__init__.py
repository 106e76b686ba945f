"""The whole state of an episode at a step, as a value.

- Holds: the state, files by digest in a store, capturing and restoring a folder, the file format.
- May import: the rest of `storage`.
- Start reading at `snapshot.py`, then `state.py`.
"""
