"""Runs: agents x competitions x instances x trials, in a directory that any crash leaves whole.

    run/
      run.json                  the plan, and the version of mlrcbench
      run.lock                  held by the process that plays the run
      episodes/<name>/
        result.json             how the episode went; written last, in one step
        attempt-1.json          how its first attempt went, if it had to be played again
        attempt.json            written before an attempt begins, so that no killed run hides it
        records/                its record, and those of failed attempts
        log.txt                 what the episode's process printed

Each episode is played in its own process. One that has a result is never played again, so a run
continues where it was stopped. Every episode of the plan counts. One whose sandbox, scorer or process failed
is played again once, and counts at most as what the first attempt had shown: nobody gains by breaking
the library.

- Holds: plans, the processes that play them, results; reports, judge studies, exports, bundles, boards.
- May import: `agents`, `env`, `llm` and what these import.
- Start reading at `grid.py`.

The files:

- `plan.py`: which episodes there are, and their names.
- `worker.py`: plays one episode.
- `episode_process.py`: the process in which a worker runs.
- `local.py`, `ray_cluster.py`: where such processes run, this machine or a Ray cluster.
- `grid.py`: plays all episodes, several at a time.
- `results.py`: reads results; `leaderboard.py` summarises them.
- `process_metrics.py`: how an agent worked; `changes.py`: what it changed.
- `paper.py`: the results of MLRC-Bench's paper.
- `newest_output.py`: what an episode's code prints while it runs; `viewer/`: a page that shows it.
- `drawing.py`: matplotlib, and colours for figures.
"""

from mlrcbench.runs.grid import run
from mlrcbench.runs.leaderboard import Row, leaderboard, leaderboard_table
from mlrcbench.runs.plan import Assignment, Plan
from mlrcbench.runs.results import Result, read_results

__all__ = ["Assignment", "Plan", "Result", "Row", "leaderboard", "leaderboard_table", "read_results", "run"]
