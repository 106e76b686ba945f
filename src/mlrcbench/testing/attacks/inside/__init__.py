"""What attackers run inside a sandbox, and the process that they attack. Standard library only.

These files are copied into a workspace as `attack_NAME.py` and run there by `attack_runner.py`.
Each has a table `ROUTES`, from a route's name to a function of one argument: `facts`, everything that
the attacker knows. It returns what it got hold of: text, bytes, or a list of these. Any exception of a
route means that it got nothing.
"""
