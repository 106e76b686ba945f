"""Runs: agents x competitions x instances x trials, as a directory that any crash leaves whole.

    run/
      run.json                  what was asked for, and by which versions
      episodes/<name>/
        result.json             how the episode went; written last, in one step
        records/                its record, and those of tries that failed
        log.txt                 what the episode's process printed

Each episode is played in a process of its own. One that has a result is never played again, so a
run goes on wherever it was stopped. A failure of the sandbox or the scorer is tried again and
reported, never scored; a failure of the agent is what it is, and stays in the statistics.

- `plan.py`: which episodes, and their names.
- `worker.py`: plays one.
- `process.py`: the process in which it does.
- `local.py`, `cluster.py`: where such processes run, this machine or a Ray cluster.
- `grid.py`: plays all, several at a time.
- `results.py`: reads them back and sums them up.
"""

from mlrcbench.runs.grid import run
from mlrcbench.runs.plan import Assignment, Plan
from mlrcbench.runs.results import Result, Row, leaderboard, leaderboard_table, read_results

__all__ = ["Assignment", "Plan", "Result", "Row", "leaderboard", "leaderboard_table", "read_results", "run"]
