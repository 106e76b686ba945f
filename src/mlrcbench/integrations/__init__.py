"""Adapters to other frameworks; nothing inside the library needs them.

- Holds: one thin file for each framework, and `serving/`, episodes over a network.
- May import: public names of the whole library, and the wording of `protocol`.
- Start reading at `langchain.py`, the shortest one.
"""
