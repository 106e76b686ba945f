"""The judge study: do language models see in an idea whether it works?

For the final code of each episode, one model explains the idea and others rate it on the five
dimensions of MLRC-Bench, with the code and without. The ratings are then compared with what the
code really achieved. They are never a part of any score.

- `questions.py`: the prompts, how hostile text is fenced, how strictly answers are read.
- `calls.py`: makes every call once and stores it by its digest, so that a study can be continued.
- `study.py`: episodes -> ratings.
- `statistics.py`: correlations with intervals, agreement.
- `findings.py`: ratings -> figures, and the files that hold both.
"""

from mlrcbench.runs.judge.findings import read_judgement, summarise_ratings, write_judgement
from mlrcbench.runs.judge.study import Rating, Subject, rate_all, subjects_of

__all__ = [
    "Rating",
    "Subject",
    "rate_all",
    "read_judgement",
    "subjects_of",
    "summarise_ratings",
    "write_judgement",
]
