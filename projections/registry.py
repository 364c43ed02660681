"""The views that are kept, one line each."""

from typing import Final

from projections import (
    alerts,
    changes,
    deliveries,
    history,
    kpis,
    organisation,
    outbox,
    people,
    saved_views,
    search,
    sources,
    work_queue,
)
from projections.projection import Projection

PROJECTIONS: Final[tuple[Projection, ...]] = (
    people.PROJECTION,
    work_queue.PROJECTION,
    alerts.PROJECTION,
    deliveries.PROJECTION,
    history.PROJECTION,
    changes.PROJECTION,
    sources.PROJECTION,
    kpis.PROJECTION,
    outbox.PROJECTION,
    search.PROJECTION,
    organisation.PROJECTION,
    saved_views.PROJECTION,
)
