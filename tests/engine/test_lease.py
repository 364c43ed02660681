"""Leadership: one process leads, and what a former leader still tries is refused."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.clock import SimulatedClock
from engine.event import Fact
from engine.lease import LEASE_SECONDS, Leadership, NotLeading, gone
from engine.ledger import Ledger
from engine.person import Person
from engine.vault import Vault
from engine.work import Unit, Work
from tests.stores import keyring_at, store_at


@pytest.fixture
def other(tmp_path: Path, ledger: Ledger, clock: SimulatedClock) -> Iterator[Ledger]:
    """Another process's ledger on the same store."""
    other = Ledger(store_at(tmp_path), Vault(keyring_at(tmp_path), b"k" * 32), clock)
    yield other
    other.close()
    other.store.close()
    other.vault.close()


def registers(work: Work) -> Fact | None:
    return work.fresh(Person, work.new_id()).register(name="Nora", email=None)


def test_one_leads_until_its_lease_ends(ledger: Ledger, other: Ledger, clock: SimulatedClock) -> None:
    first, second = Leadership(ledger), Leadership(other)
    assert first.renew()
    assert not second.renew()
    clock.advance(LEASE_SECONDS - 1)
    assert first.renew()
    clock.advance(LEASE_SECONDS - 1)
    assert not second.renew()
    clock.advance(1)
    assert second.renew()
    assert not first.renew()
    assert not first.leads


def test_what_a_former_leader_tries_is_refused(ledger: Ledger, other: Ledger, clock: SimulatedClock) -> None:
    first, second = Leadership(ledger), Leadership(other)
    first.renew()
    unit = first.fenced(Unit(registers, actor="tocsin"))
    ledger.run(first.fenced(Unit(registers, actor="tocsin")))
    clock.advance(LEASE_SECONDS)
    second.renew()
    head = other.store.head()
    assert first.leads  # it was asleep, and does not know
    with pytest.raises(NotLeading):
        ledger.run(unit)
    with pytest.raises(NotLeading):
        ledger.run(first.fenced(Unit(registers, actor="tocsin")))
    assert other.store.head() == head
    other.run(second.fenced(Unit(registers, actor="tocsin")))
    # It leads again: what was fenced before it lost the lease stays refused.
    clock.advance(LEASE_SECONDS)
    assert first.renew()
    with pytest.raises(NotLeading):
        ledger.run(unit)
    ledger.run(first.fenced(Unit(registers, actor="tocsin")))


def test_a_lease_that_is_let_go_is_free(ledger: Ledger, other: Ledger) -> None:
    first, second = Leadership(ledger), Leadership(other)
    first.renew()
    first.stop()
    assert not first.leads
    assert second.renew()
    assert second.token == 2


def test_a_holder_that_ended_is_known_as_gone(ledger: Ledger) -> None:
    program = "from engine.lease import _machine, _process; print(f'{_machine()}/{_process(\"self\")}/x', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        holder = process.stdout.readline().strip()
        assert not gone(holder)
        process.kill()
    assert gone(holder)
    assert not gone("elsewhere:pid/1.2/x")
