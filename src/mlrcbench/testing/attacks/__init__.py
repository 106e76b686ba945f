"""Attackers: scripted agents that try what a hostile agent would, and report what they gained.

Each attack has two halves: `host/` checks what was gained, `inside/` runs in the sandbox. The halves
of one attack are in files of the same name. Start reading at `attack.py`, then `campaign.py`.
"""
