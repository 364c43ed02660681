"""A process may die between any two of its calls of the store: nothing acknowledged is lost, nothing happens twice."""

from tests.faults.cuts import LONGEST_LIFE, survives
from tests.faults.promises import scratch


def test_a_process_may_die_at_any_call_of_the_store() -> None:
    with scratch() as folder:
        deaths = 0
        for life in range(LONGEST_LIFE):
            (folder / str(life)).mkdir()
            died = survives(folder / str(life), life)
            deaths += died
            if not died:
                break
        assert not died
        assert deaths > 30
