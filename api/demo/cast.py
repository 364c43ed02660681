"""Who and what the demo is about. All names are made up."""

from dataclasses import dataclass
from typing import Final

PASSWORD: Final = "tocsin-demo"  # noqa: S105  # known on purpose: the demo listens on the loopback address only


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in to the demo."""

    login: str
    name: str
    role: str
    team: str | None


ACCOUNTS: Final = (
    Account("nora", "Nora Berg", "lead", "Shop"),
    Account("luis", "Luis Marín", "agent", "Databases"),
    Account("asa", "Åsa Lind", "agent", "Workplace"),
    Account("tom", "Tom Okafor", "agent", "Network"),
    Account("ines", "Inès Caron", "auditor", None),
    Account("admin", "Ada Admin", "admin", None),
)
REQUESTERS: Final = (
    "anna.holm@example.com", "bruno.diaz@example.com", "chloe.martin@example.com", "david.young@example.com",
    "elin.sjoberg@example.com", "farid.haddad@example.com", "greta.novak@example.com", "hugo.petit@example.com",
)
# Service -> (team, hosts)
SERVICES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "Shop": ("Shop", ("srv-web-01", "srv-web-02", "srv-web-03")),
    "Payments": ("Shop", ("srv-pay-01", "srv-pay-02")),
    "Orders database": ("Databases", ("srv-db-01", "srv-db-02", "srv-db-03")),
    "Mail": ("Workplace", ("srv-mail-01",)),
    "Remote access": ("Network", ("vpn-lyon-01", "vpn-malmo-01")),
    "File service": ("Workplace", ("srv-nfs-01",)),
    "Identity": ("Network", ("srv-idp-01", "srv-idp-02")),
}
# Team -> support level.
TEAMS: Final = {"Workplace": 1, "Shop": 2, "Network": 2, "Databases": 3}
# Service -> (tier, depends on). Identity is left for adoption.
REGISTERED: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "Shop": (1, ("Payments", "Orders database", "Identity")),
    "Payments": (1, ("Orders database",)),
    "Orders database": (1, ()),
    "Mail": (2, ("Identity",)),
    "Remote access": (2, ("Identity",)),
    "File service": (3, ()),
}
