"""The attacks, by what they are after: one module for each group.

Each module has `ATTACKS`, and `run`, which carries out some of them and says what came of each.
"""
