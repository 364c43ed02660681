"""The monitoring systems that Tocsin understands: one line each.

An adapter's name is also the name of its default source.
"""

from typing import Final

from engine.errors import NotFound
from monitors.adapter import Adapter
from monitors.integrations import alertmanager, alertmanager_api, generic, grafana, pagerduty

ADAPTERS: Final[tuple[Adapter, ...]] = (
    alertmanager.ADAPTER,
    alertmanager_api.ADAPTER,
    grafana.ADAPTER,
    pagerduty.ADAPTER,
    generic.ADAPTER,
)

_BY_NAME: Final = {adapter.name: adapter for adapter in ADAPTERS}


def adapter_named(name: str) -> Adapter:
    """The adapter of that name.

    Raises:
        NotFound: there is none.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise NotFound("adapter", f"{name}; there are {', '.join(_BY_NAME)}") from None
