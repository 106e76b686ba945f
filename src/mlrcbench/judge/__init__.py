"""The judge study: do language models see in an idea whether it works?

For the final code of each episode one model explains the idea, and others rate it on the five
dimensions of MLRC-Bench, with the code and without. The ratings are then compared with what the
code really achieved. They are never a part of any score.

- `prompts.py`: what is asked, how hostile text is fenced, how strictly answers are read.
- `calls.py`: every call once, kept by its digest, so that a study can be gone on with.
- `study.py`: episodes -> ratings.
- `statistics.py`: correlations with intervals, agreement.
- `summary.py`: ratings -> figures, and the files that hold both.
"""

from mlrcbench.judge.study import Rating, Subject, rate_all, subjects_of
from mlrcbench.judge.summary import read_judgement, summarise_ratings, write_judgement

__all__ = [
    "Rating",
    "Subject",
    "rate_all",
    "read_judgement",
    "subjects_of",
    "summarise_ratings",
    "write_judgement",
]
