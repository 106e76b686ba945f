"""Registry: names -> competitions -> Gymnasium ids.

A competition is found by its folder: those of this package, and those that other packages
announce through the entry-point group `mlrcbench.competitions`, whose value is the package
that is the folder, for example `my_package.competitions.my_problem`. Those of this package are
registered with Gymnasium when mlrcbench is imported, theirs when names are first looked up.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from pathlib import Path

from mlrcbench.card import Card
from mlrcbench.competition import Competition
from mlrcbench.errors import CardError, RegistryError, nearest
from mlrcbench.registration import SHIPPED, register

ENTRY_POINT_GROUP = "mlrcbench.competitions"


def list_competitions(*, hidden: bool = False) -> list[Card]:
    """The cards of all competitions, by id.

    Args:
        hidden: Also those that listings leave out, such as the template.
    """
    found = competitions().values()
    return [entry.card for entry in found if hidden or not entry.card.hidden]


def get_competition(name: str) -> Competition:
    """A competition by its id.

    Raises:
        RegistryError: There is none of that id; the text names the nearest.
    """
    found = competitions()
    if name in found:
        return found[name]
    shown = [entry.id for entry in found.values() if not entry.card.hidden]
    raise RegistryError(f"there is no competition {name!r}. {nearest(name, shown)}")


@functools.cache
def competitions() -> dict[str, Competition]:
    """All competitions by id, the hidden included.

    Raises:
        CardError: A folder or a card is wrong, or two have the same id.
    """
    found: dict[str, Competition] = {}
    for competition in [*shipped(), *_announced()]:
        other = found.setdefault(competition.id, competition)
        if other is not competition:
            raise CardError(
                f"{other.folder} and {competition.folder} have the same id {other.id!r}; rename one"
            )
    return dict(sorted(found.items()))


def shipped() -> list[Competition]:
    """The competitions of this package."""
    return [Competition(path.parent) for path in sorted(SHIPPED.glob("*/card.toml"))]


def _announced() -> list[Competition]:
    """Those of other packages; one that is broken is left out with a warning, and harms no other."""
    from importlib import metadata  # takes longer to import than everything else here

    found = []
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            competition = _load(point.value)
        except (CardError, ImportError) as error:
            warnings.warn(f"the competition {point.name!r} is left out: {error}", stacklevel=3)
            continue
        register(competition.id, competition.card.version)
        found.append(competition)
    return found


def _load(package: str) -> Competition:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CardError(f"its entry point names {package}, which is no package")
    return Competition(Path(next(iter(spec.submodule_search_locations))))
