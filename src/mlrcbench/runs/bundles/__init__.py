"""Bundles: the results of one agent in one file, which others can check without trusting it.

    run.mlrc                an uncompressed tar archive; it may also be compressed with gzip, as run.mlrc.gz
      manifest.json         what it is, who made it, and the digest of every other file
      run.json              the run's plan, for this agent
      episodes/<name>/      results and records, as in the directory of a run

The same run gives the same bytes. A bundle comes from anyone, so opening one runs nothing, follows no link
and believes no size: the archive is unpacked within bounds, and must hold what its manifest lists, and
nothing else.

- `agent_card.py`: who made an agent, and what it is.
- `leaks.py`: whether a file holds something secret.
- `manifest_file.py`: the format of the manifest.
- `pack.py`: a run -> a bundle.
- `opened.py`: a bundle -> a folder that is laid out like a run.
- `policy.py`: what a board accepts.
- `verify.py`: whether a bundle is complete and keeps the rules; `episode_rules.py` has those of one episode.
- `retest.py`: what methods are worth on fresh instances; `retest_tables.py` shows it.
"""

from mlrcbench.runs.bundles.agent_card import AgentCard, read_agent_card
from mlrcbench.runs.bundles.opened import Bundle, open_bundle
from mlrcbench.runs.bundles.pack import Packed, write_bundle
from mlrcbench.runs.bundles.policy import AcceptancePolicy, read_policy
from mlrcbench.runs.bundles.retest import Retest, retest, summarise_retests
from mlrcbench.runs.bundles.retest_tables import retest_json, retest_table
from mlrcbench.runs.bundles.verify import Check, verify

__all__ = [
    "AcceptancePolicy",
    "AgentCard",
    "Bundle",
    "Check",
    "Packed",
    "Retest",
    "open_bundle",
    "read_agent_card",
    "read_policy",
    "retest",
    "retest_json",
    "retest_table",
    "summarise_retests",
    "verify",
    "write_bundle",
]
