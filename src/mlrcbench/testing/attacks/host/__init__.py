"""The attacks, by their aims: one module for each group.

Each module has `ATTACKS`, and `run`, which carries out some of them and yields their outcomes.
"""
