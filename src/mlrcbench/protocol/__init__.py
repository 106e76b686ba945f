"""What agent and environment say to each other.

- Holds: actions and their tool schemas, observations, every sentence that an agent reads, the
  meter of the budget, the Gymnasium spaces.
- May import: `catalog`, `sandbox`, `score`, `text`, `errors`.
- Start reading at `actions.py` and `observation.py`; `wording.py` has the sentences.
"""
