"""What happens in the demo's week: payloads in the shapes that monitors really send, and commands of people.

A script is a list of steps in time order. Nothing here touches a store; `stage.py` plays the steps.
"""

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from api.demo.cast import REQUESTERS, SERVICES

SEED: Final = 2041
DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Ring:
    """A monitor delivers; `scene` names the incident that this opens, for later steps.

    Attributes:
        change: it is a PagerDuty change event.
    """

    at: datetime
    source: str
    payload: dict[str, Any]
    scene: str | None = None
    change: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """A person gives a command on the ticket of a scene."""

    at: datetime
    who: str
    scene: str
    command: str
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Open:
    """A person opens an incident or submits a request."""

    at: datetime
    who: str
    scene: str
    kind: str
    body: dict[str, Any]


Step = Ring | Act | Open


def text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def alertmanager(
    at: datetime, name: str, host: str, service: str, severity: str, summary: str, *, started: datetime, ended: datetime | None = None
) -> dict[str, Any]:
    """A webhook payload of Alertmanager (version 4) with one member."""
    labels = {"alertname": name, "instance": host, "service": service, "severity": severity, "env": "prod"}
    alert = {
        "status": "resolved" if ended else "firing",
        "labels": labels,
        "annotations": {"summary": summary, "description": f"{summary} (seen at {at:%H:%M})"},
        "startsAt": text(started),
        "endsAt": text(ended) if ended else "0001-01-01T00:00:00Z",
        "generatorURL": "https://prometheus.example.com/graph",
        "fingerprint": f"{zlib.crc32((name + host).encode()):016x}",
    }
    return {
        "version": "4", "groupKey": f'{{}}:{{alertname="{name}"}}', "truncatedAlerts": 0, "status": alert["status"],
        "receiver": "tocsin", "groupLabels": {"alertname": name}, "commonLabels": labels, "commonAnnotations": {},
        "externalURL": "https://alertmanager.example.com", "alerts": [alert],
    }


def grafana(
    name: str, host: str, service: str, severity: str, summary: str, *, started: datetime, ended: datetime | None = None
) -> dict[str, Any]:
    """A webhook payload of Grafana's unified alerting."""
    status = "resolved" if ended else "firing"
    labels = {"alertname": name, "instance": host, "service": service, "severity": severity, "grafana_folder": "Operations"}
    alert = {
        "status": status, "labels": labels, "annotations": {"summary": summary}, "startsAt": text(started),
        "endsAt": text(ended) if ended else "0001-01-01T00:00:00Z", "values": {"B": 131.4, "C": 1}, "valueString": "",
        "generatorURL": "https://grafana.example.com/alerting/grafana/ab12/view", "fingerprint": "b2f1c03de55a9e10",
        "dashboardURL": "", "panelURL": "", "silenceURL": "https://grafana.example.com/alerting/silence/new",
    }
    return {
        "receiver": "tocsin", "status": status, "orgId": 1, "alerts": [alert], "groupLabels": {"alertname": name},
        "commonLabels": labels, "commonAnnotations": {}, "externalURL": "https://grafana.example.com/", "version": "1",
        "groupKey": "{}", "truncatedAlerts": 0, "state": "alerting" if status == "firing" else "ok", "title": summary, "message": "",
    }


def pagerduty(action: str, key: str, host: str, severity: str, summary: str, service: str) -> dict[str, Any]:
    """An event of PagerDuty's Events API v2."""
    return {
        "routing_key": "demo", "event_action": action, "dedup_key": key,
        "payload": {"summary": summary, "source": host, "severity": severity, "custom_details": {"service": service}},
    }


def _change(at: datetime, summary: str, service: str) -> dict[str, Any]:
    return {
        "routing_key": "demo",
        "payload": {"summary": summary, "timestamp": text(at), "source": "deploy-01", "custom_details": {"service": service}},
    }


class Script:
    """Collects the steps of the week that ends at `end`."""

    def __init__(self, end: datetime) -> None:
        self.end, self.start = end, end - timedelta(days=DAYS)
        self.random = random.Random(SEED)  # noqa: S311  # the same week each time
        self.steps: list[Step] = []

    def ring(self, at: datetime, source: str, payload: dict[str, Any], scene: str | None = None, *, change: bool = False) -> None:
        self.steps.append(Ring(at, source, payload, scene, change))

    def act(self, at: datetime, who: str, scene: str, command: str, **body: Any) -> None:
        self.steps.append(Act(at, who, scene, command, body))

    def open(self, at: datetime, who: str, scene: str, kind: str, **body: Any) -> None:
        self.steps.append(Open(at, who, scene, kind, body))

    def episode(
        self, name: str, host: str, service: str, severity: str, summary: str, begun: datetime, ended: datetime | None,
        *, repeats_every: timedelta = timedelta(hours=4), scene: str | None = None, told_after: timedelta = timedelta(seconds=40),
    ) -> None:
        """One alert by Alertmanager: fires, repeats, resolves."""
        at = begun + told_after
        self.ring(at, "alertmanager", alertmanager(at, name, host, service, severity, summary, started=begun), scene)
        at += repeats_every
        while at < min(ended or self.end, self.end):
            self.ring(at, "alertmanager", alertmanager(at, name, host, service, severity, summary, started=begun))
            at += repeats_every
        if ended is not None and ended < self.end:
            at = ended + timedelta(seconds=20)
            self.ring(at, "alertmanager", alertmanager(at, name, host, service, severity, summary, started=begun, ended=ended))


def last_tuesday(end: datetime) -> datetime:
    """02:00 of the latest Tuesday that lies wholly inside the week before `end`."""
    day = end.replace(hour=2, minute=0, second=0, microsecond=0)
    while day.weekday() != 1 or day > end - timedelta(hours=20):
        day -= timedelta(days=1)
    return day


def week(end: datetime) -> list[Step]:
    """The steps of the week that ends at `end`, in time order."""
    script = Script(end)
    for part in (_checkout, _replication, _vpn, _payments_now, _noise, _heartbeat, _everyday_incidents, _requests):
        part(script)
    return sorted((step for step in script.steps if script.start <= step.at < end), key=lambda step: step.at)


def _checkout(script: Script) -> None:
    """Tuesday night: both web nodes fail after a certificate change."""
    night = last_tuesday(script.end)

    def at(hours: float, minutes: float, seconds: float = 0) -> datetime:
        return night + timedelta(hours=hours - 2, minutes=minutes, seconds=seconds)

    script.ring(at(1, 49), "pagerduty", _change(at(1, 49), "Renewed the shop's TLS certificates", "Shop"), change=True)
    script.episode("HighErrorRate", "srv-web-01", "Shop", "critical", "Checkout answers 502 on srv-web-01", at(2, 2, 20), at(2, 38), scene="checkout", repeats_every=timedelta(minutes=5))
    script.act(at(2, 4, 50), "nora", "checkout", "acknowledge")
    script.act(at(2, 5, 30), "nora", "checkout", "assign", team="Shop", assignee="nora")
    script.episode("HighErrorRate", "srv-web-02", "Shop", "critical", "Checkout answers 502 on srv-web-02", at(2, 12), at(2, 39), repeats_every=timedelta(minutes=5))
    script.act(at(2, 12, 40), "nora", "checkout", "comment", visibility="internal", text="Node 2 was healthy until 02:12, then the same upstream error. Looks like the 02:00 certificate change.")
    script.act(at(2, 14, 7), "nora", "checkout", "set-priority", priority="P1", reason="the second node fails too")
    script.act(at(2, 16), "nora", "checkout", "comment", visibility="public", text="Checkout is down for part of our customers. We are rolling back a certificate change; next word at 02:30.")
    script.episode("QueueLength", "srv-pay-01", "Payments", "warning", "212 payments are waiting", at(2, 15), at(2, 44))
    script.act(at(2, 41), "nora", "checkout", "resolve", code="solved", solution="Reloaded the upstream pool after rolling back to the former certificate chain.")
    script.act(at(9, 20), "nora", "checkout", "close")


def _replication(script: Script) -> None:
    """The same lag comes three times: a chain of linked successors, the last with a workaround."""
    first = script.start + timedelta(hours=34)
    for round_, (hours, minutes) in enumerate(((0, 26), (41, 51), (89, 33))):
        begun, scene = first + timedelta(hours=hours), f"lag-{round_}"
        ended = begun + timedelta(minutes=minutes)
        summary = "Replication lag on srv-db-03 over 120 s"
        script.ring(begun + timedelta(seconds=15), "grafana", grafana("ReplicationLag", "srv-db-03", "Orders database", "high", summary, started=begun), scene)
        script.act(begun + timedelta(minutes=6), "luis", scene, "acknowledge")
        script.act(begun + timedelta(minutes=8), "luis", scene, "comment", visibility="internal", text=("Nightly export again, see the slow query log." if round_ else "A long transaction of the nightly export holds the replica back."))
        script.ring(ended + timedelta(seconds=15), "grafana", grafana("ReplicationLag", "srv-db-03", "Orders database", "high", summary, started=begun, ended=ended))


def _vpn(script: Script) -> None:
    """Four people report the same thing; escalated to level 2, waits for the provider, and is worked around."""
    morning = (script.end - timedelta(days=2)).replace(hour=8, minute=2, second=0, microsecond=0)
    script.open(morning, "asa", "vpn", "incident", title="VPN drops for the Lyon office", impact="medium", urgency="high", service="Remote access", requester=REQUESTERS[2], description="Every ten minutes, for everybody on the second floor.", channel="phone")
    script.act(morning + timedelta(minutes=4), "asa", "vpn", "acknowledge")
    for place, minutes in enumerate((9, 17, 31)):
        scene = f"vpn-report-{place}"
        script.open(morning + timedelta(minutes=minutes), "asa", scene, "incident", title="VPN keeps disconnecting", impact="low", urgency="medium", service="Remote access", requester=REQUESTERS[3 + place], channel="mail")
        script.act(morning + timedelta(minutes=minutes + 2), "asa", scene, "link", to="@vpn", relation="duplicate_of")
        script.act(morning + timedelta(minutes=minutes + 3), "asa", scene, "resolve", code="duplicate", solution="The same fault as the incident of the Lyon office, where you will be told.")
    script.act(morning + timedelta(minutes=40), "asa", "vpn", "escalate", level=2, team="Network", reason="needs access to the concentrator")
    script.act(morning + timedelta(minutes=52), "tom", "vpn", "assign", team="Network", assignee="tom")
    script.act(morning + timedelta(minutes=75), "tom", "vpn", "hold", reason="the provider checks its line")
    script.act(morning + timedelta(hours=4, minutes=10), "tom", "vpn", "resume")
    script.act(morning + timedelta(hours=4, minutes=30), "tom", "vpn", "comment", visibility="public", text="The provider found packet loss on its side. You are on the second line until tonight.")
    script.act(morning + timedelta(hours=5, minutes=5), "tom", "vpn", "resolve", code="workaround", solution="Lyon goes over the second line until the provider has repaired the first.")


def _payments_now(script: Script) -> None:
    """What is on when the visitor comes in."""
    end = script.end
    script.episode("PaymentLatency", "srv-pay-02", "Payments", "critical", "Card payments take over 8 s", end - timedelta(minutes=41), None, scene="payments", repeats_every=timedelta(minutes=5))
    script.act(end - timedelta(minutes=37), "nora", "payments", "acknowledge")
    script.act(end - timedelta(minutes=36), "nora", "payments", "assign", team="Shop", assignee="nora")
    script.act(end - timedelta(minutes=22), "nora", "payments", "comment", visibility="internal", text="The acquirer's status page is green. Tracing one payment through.")
    script.episode("CertificateExpiry", "srv-idp-02", "Identity", "high", "Certificate of srv-idp-02 ends in 3 days", end - timedelta(hours=5), None, scene="certificate")
    script.episode("MailQueue", "srv-mail-01", "Mail", "high", "1,840 mails are queued", end - timedelta(minutes=12), None, repeats_every=timedelta(minutes=5))
    script.ring(end - timedelta(minutes=55), "pagerduty", _change(end - timedelta(minutes=55), "Payments 4.12.0 rolled out", "Payments"), change=True)
    script.open(end - timedelta(hours=2, minutes=10), "asa", "scanner", "incident", title="Scanner at the front desk makes black pages", impact="low", urgency="low", service="File service", requester=REQUESTERS[1], channel="phone")


def _noise(script: Script) -> None:
    """What is noticed and not worth an incident: disks, load, a flapping interface."""
    services = list(SERVICES.items())
    for _ in range(90):
        service, (_, hosts) = script.random.choice(services)
        host, begun = script.random.choice(hosts), script.start + timedelta(minutes=script.random.uniform(0, DAYS * 1440))
        name, summary = script.random.choice((("DiskFilling", f"Disk on {host} over 85 %"), ("HighLoad", f"Load on {host} over 12"), ("SlowQueries", f"Slow queries on {host}"), ("MemoryPressure", f"Memory on {host} over 90 %")))
        script.episode(name, host, service, script.random.choice(("warning", "warning", "info")), summary, begun, begun + timedelta(minutes=script.random.lognormvariate(3.4, 0.8)))
    begun = script.end - timedelta(days=3, hours=5)
    for _ in range(14):
        script.episode("InterfaceFlapping", "vpn-malmo-01", "Remote access", "warning", "Interface ge-0/0/3 goes up and down", begun, begun + timedelta(minutes=3))
        begun += timedelta(minutes=7)


def _heartbeat(script: Script) -> None:
    """A watchdog alert that always fires, every four hours."""
    begun = script.start + timedelta(minutes=1)
    script.episode("Watchdog", "prometheus-01", "", "none", "The alerting pipeline works", begun, None)


def _everyday_incidents(script: Script) -> None:
    """Incidents that monitoring opens and people close, some by themselves."""
    services = [(service, team, hosts) for service, (team, hosts) in SERVICES.items() if service != "Remote access"]
    agents = {"Shop": "nora", "Databases": "luis", "Workplace": "asa", "Network": "tom"}
    for place in range(34):
        service, team, hosts = script.random.choice(services)
        host, scene = script.random.choice(hosts), f"day-{place}"
        begun = script.start + timedelta(minutes=script.random.uniform(60, DAYS * 1440 - 600))
        lasts = timedelta(minutes=min(script.random.lognormvariate(3.3, 0.9), 360))
        name, summary = script.random.choice((("InstanceDown", f"{host} does not answer"), ("HighErrorRate", f"{service} answers with errors on {host}"), ("LatencyHigh", f"{service} is slow on {host}"), ("BackupFailed", f"Backup of {host} failed")))
        severity = script.random.choice(("critical", "high", "high"))
        script.episode(name, host, service, severity, summary, begun, begun + lasts, scene=scene, repeats_every=timedelta(minutes=15))
        seen = begun + timedelta(minutes=min(script.random.lognormvariate(1.6, 0.8), lasts.total_seconds() / 90))
        if script.random.random() < 0.75:
            script.act(seen, agents[team], scene, "acknowledge")
        if script.random.random() < 0.4:
            script.act(seen + timedelta(minutes=2), agents[team], scene, "assign", team=team, assignee=agents[team])
            script.act(begun + lasts + timedelta(minutes=script.random.uniform(3, 25)), agents[team], scene, "resolve", code=script.random.choice(("solved", "solved", "workaround", "no_fault")), solution=script.random.choice(("Restarted the service.", "Cleared the disk and raised the alarm's threshold.", "Failed over to the second node.", "Nothing to find; the graph was right again.")))
        if script.random.random() < 0.12:
            script.act(begun + lasts + timedelta(minutes=40), agents[team], scene, "reopen", reason="it is back")
            script.act(begun + lasts + timedelta(minutes=95), agents[team], scene, "resolve", code="solved", solution="Found the cause this time: a job without a limit.")


REQUESTED: Final = (
    ("Access to the ledger share for the audit team", "access", "File service", True),
    ("New headset for the front desk", "headset", None, False),
    ("Password reset", "password-reset", "Identity", False),
    ("Mailbox for the spring campaign", "shared-mailbox", "Mail", True),
    ("Laptop for a new colleague", "laptop", None, True),
    ("VPN for a contractor until June", "vpn", "Remote access", True),
)


def _requests(script: Script) -> None:
    """Service requests: approved or declined, fulfilled, some waiting."""
    for place in range(26):
        title, item, service, approval = REQUESTED[place % len(REQUESTED)]
        at = _office_hours(script.start + timedelta(minutes=script.random.uniform(0, DAYS * 1440 - 90)))
        scene = f"request-{place}"
        script.open(at, "asa", scene, "request", title=title, item=item, service=service, needs_approval=approval, requester=script.random.choice(REQUESTERS), channel=script.random.choice(("portal", "mail", "phone")), team="Workplace")
        step = at + timedelta(minutes=script.random.uniform(10, 300))
        if approval:
            if place % 9 == 5:
                script.act(step, "nora", scene, "decline", reason="There is one already that nobody uses.")
                continue
            script.act(step, "nora", scene, "approve")
            step += timedelta(minutes=script.random.uniform(10, 200))
        script.act(step, "asa", scene, "assign", team="Workplace", assignee="asa")
        if place % 7 == 3:
            script.act(step + timedelta(minutes=20), "asa", scene, "hold", reason="the supplier has none in stock")
            continue
        done = step + timedelta(minutes=script.random.uniform(20, 900))
        script.act(done, "asa", scene, "fulfil", note="Done; have a nice day.")
        script.act(done + timedelta(hours=20), "asa", scene, "close")


def _office_hours(at: datetime) -> datetime:
    """The same day between 7 and 15 UTC, and never on a weekend."""
    if at.weekday() >= 5:
        at -= timedelta(days=at.weekday() - 4)
    return at.replace(hour=7 + at.hour % 9)


def trickle(start: datetime, source: random.Random) -> Iterator[tuple[float, list[Step]]]:
    """What goes on while somebody watches: (seconds to wait, steps to play), for ever."""
    services = list(SERVICES.items())
    firing: list[tuple[str, str, str, str, str, datetime]] = []
    now = start
    while True:
        wait = source.uniform(15, 40)
        now += timedelta(seconds=wait)
        if firing and (len(firing) > 3 or source.random() < 0.5):
            name, host, service, severity, summary, begun = firing.pop(0)
            payload = alertmanager(now, name, host, service, severity, summary, started=begun, ended=now)
        else:
            service, (_, hosts) = source.choice(services)
            host = source.choice(hosts)
            name, summary = source.choice((("HighLoad", f"Load on {host} over 12"), ("LatencyHigh", f"{service} is slow on {host}"), ("ProbeFailed", f"Probe of {host} failed")))
            severity = source.choice(("warning", "high", "critical"))
            firing.append((name, host, service, severity, summary, now))
            payload = alertmanager(now, name, host, service, severity, summary, started=now)
        yield wait, [Ring(now, "alertmanager", payload)]
