"""Sources: where a full tier's data comes from, and how it gets here.

A card names its sources (`spec`). `fetch` brings each of them into a cache: plain files by HTTP
(`download`, `archives`), repositories of a model hub by the hub's own library (`hub`). What cannot
be had by a program, because somebody has to sign in and agree first, is taken from a folder that the
user has; the error that asks for it holds the steps, word for word. `raw` finds files in what came.

Nothing here knows a competition. Tokens are read from the environment when a request needs one, and go
nowhere else: not to the process that converts, not to a sandbox, not into a record. Cards need `spec`
only, so importing this package imports nothing.
"""
