"""Sources: where a full tier's data comes from, and how it gets here.

A card names its sources (`spec`). `fetch` brings each of them into a cache: plain files by HTTP
(`download`, `archives`), repositories of a model hub by the hub's own library (`hub`). Data that a
program cannot download, because somebody must sign in and agree first, is taken from a folder of the
user; the error that asks for it holds the exact steps. `raw` finds files in raw data.

- Holds: the forms of sources, downloads, archives, the cache of raw data.
- May import: `artefacts`, `storage`, `errors`.
- Start reading at `spec.py`, then `fetch.py`.

Nothing here knows a competition. Tokens are read from the environment when a request needs one, and are
given to nothing else: not to the process that converts data, a sandbox, or a record. Cards need only
`spec`, so importing this package imports nothing.
"""
