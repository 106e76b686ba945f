"""Registry: names -> competitions -> Gymnasium ids.

A competition is a folder: of this package, or of another package that announces it through the
entry-point group `mlrcbench.competitions`. The value of such an entry point is the package that is the
folder, for example `my_package.competitions.my_problem`. The competitions of this package are
registered with Gymnasium when mlrcbench is imported, those of other packages when a name is first
looked up.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from pathlib import Path

from mlrcbench.catalog.card import Card
from mlrcbench.catalog.competition import Competition
from mlrcbench.catalog.gymnasium_ids import SHIPPED, register
from mlrcbench.errors import CardError, RegistryError, nearest

ENTRY_POINT_GROUP = "mlrcbench.competitions"


def list_competitions(*, hidden: bool = False) -> list[Card]:
    """The cards of all competitions, by id.

    Args:
        hidden: Whether to include competitions that listings leave out, such as the template.
    """
    return [entry.card for entry in competitions().values() if hidden or not entry.card.hidden]


def get_competition(name: str) -> Competition:
    """A competition by its id.

    Raises:
        RegistryError: The id is unknown; the message names the nearest.
    """
    known = competitions()
    if name in known:
        return known[name]
    listed = [entry.id for entry in known.values() if not entry.card.hidden]
    raise RegistryError(f"unknown competition {name!r}. {nearest(name, listed)}")


@functools.cache
def competitions() -> dict[str, Competition]:
    """All competitions by id, including hidden ones.

    Raises:
        CardError: A folder or a card is not valid, or two have the same id.
    """
    known: dict[str, Competition] = {}
    for competition in [*shipped(), *_announced()]:
        other = known.setdefault(competition.id, competition)
        if other is not competition:
            raise CardError(
                f"{other.folder} and {competition.folder} have the same id {other.id!r}; rename one"
            )
    return dict(sorted(known.items()))


def shipped() -> list[Competition]:
    """The competitions of this package."""
    return [Competition(path.parent) for path in sorted(SHIPPED.glob("*/card.toml"))]


def _announced() -> list[Competition]:
    """The competitions of other packages; a broken one is left out with a warning and harms no other."""
    from importlib import metadata  # takes longer to import than everything else here

    announced = []
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            competition = _load(point.value)
        except (CardError, ImportError) as error:
            warnings.warn(f"the competition {point.name!r} is left out: {error}", stacklevel=3)
            continue
        register(competition.id, competition.card.version)
        announced.append(competition)
    return announced


def _load(package: str) -> Competition:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CardError(f"its entry point names {package}, which is not a package")
    return Competition(Path(next(iter(spec.submodule_search_locations))))
