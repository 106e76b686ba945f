"""The catalog: what a competition is, and how its instances are built, cached and prepared.

- Holds: cards, competitions, the registry, the cache of instances, preparation of real data.
- May import: `sources`, `storage`, `sandbox`, `artefacts`, `score`, `text`, `errors`.
- Start reading at `competition.py`; `instances.py` is the cache, `card.py` the format of `card.toml`.
"""
