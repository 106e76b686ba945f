"""Episodes over a network: access, the table of open episodes, and the transports.

Start reading at `episodes.py`, the table of open episodes; `access.py` guards it.
"""
