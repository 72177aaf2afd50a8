"""Finding a stored object by the beginning of its name."""

from collections.abc import Iterable

from holdfast.core.errors import ObjectNotFoundError, UsageError


def by_beginning(names: Iterable[str], beginning: str, kind: str) -> str:
    """The one name that begins so.

    Raises:
        ObjectNotFoundError: none does.
        UsageError: several do.
    """
    fitting = [name for name in names if name.startswith(beginning)]
    if not fitting:
        raise ObjectNotFoundError(
            f"there is no {kind} {beginning!r}", remedy="See `holdfast list` for what there is."
        )
    if len(fitting) > 1:
        raise UsageError(f"{beginning!r} fits {len(fitting)} names", remedy="Give more digits.")
    return fitting[0]
