"""Repositories of a model hub, through the hub's own library.

`huggingface_hub` knows about revisions, resuming, parallel files and `HF_ENDPOINT`. It is imported only
here, when something must be downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

from mlrcbench.errors import DataError
from mlrcbench.sources.spec import Source


def fetch_repository(source: Source, folder: Path, *, quiet: bool = False) -> None:
    """Download the files of a source's repository into a folder; complete files are not downloaded again.

    Args:
        source: A source with a repository.
        folder: The folder, which is made if it does not exist.
        quiet: Whether to show no progress.

    Raises:
        DataError: Access is refused (the text says how to get it), or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if quiet:
        disable_progress_bars()
    where = f"{source.repository} at {source.revision}"
    try:
        snapshot_download(
            source.repository,
            repo_type=source.repository_kind,
            revision=source.revision,
            allow_patterns=list(source.patterns) or None,
            local_dir=folder,
            token=os.environ.get(source.variable) or None if source.variable else False,
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    except RevisionNotFoundError:
        raise DataError(
            f"the hub has {source.repository}, but no revision {source.revision!r} of it"
        ) from None
    except (GatedRepoError, RepositoryNotFoundError):
        raise DataError(f"the hub refuses access to {where}. {source.steps}".rstrip()) from None
    except Exception as error:  # a broken network raises errors of many libraries
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise DataError(
            f"{where} could not be fetched from the hub ({reason}). What came is kept: the same command "
            "continues from there"
        ) from error
