"""How the EMS itself is: its links, its counters, what it refused and why, how full it is."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import __version__
from headend.ems.refusals import Refusal
from headend.ems.service import EmsService
from headend.ems.view_types import LinkView, VtnView


@dataclass(frozen=True, slots=True)
class Fill:
    """``used`` of ``most``; what goes beyond is refused."""

    used: int
    most: int


@dataclass(frozen=True, slots=True)
class ReportsStatus:
    """``stored`` and ``duplicates`` ever; ``rejected`` (for good) and ``deferred`` (not now) since the start.

    ``waiting``: writes on their way to the disk.
    """

    stored: int
    duplicates: int
    rejected: int
    deferred: int
    waiting: int


@dataclass(frozen=True, slots=True)
class StatusView:
    """``database``: what it says while writes fail, else empty. ``refused``: since the start, the latest first in
    ``refusals``."""

    version: str
    at: float
    started_at: float
    database: str
    links: list[LinkView]
    emas: Fill
    connected: int
    devices: Fill
    reports: ReportsStatus
    refused: int
    refusals: list[Refusal]
    rdr_policy: str
    vtns: list[VtnView]


def vtn_views(service: EmsService) -> list[VtnView]:
    """VTNs that registered over UDP."""
    wall = service.book.wall
    return [
        VtnView(vtn.name, vtn.address, vtn.vens, vtn.value_w, vtn.registered_at, max(0.0, wall - vtn.last_seen))
        for vtn in service.vtns.known.values()
    ]


def status(service: EmsService) -> StatusView:
    """Now."""
    book = service.book
    emas = book.emas.values()
    return StatusView(
        version=__version__,
        at=book.wall,
        started_at=service.started_at,
        database=book.store.writer.failing,
        links=[head.link() for head in book.heads.values()],
        emas=Fill(len(emas), book.settings.most_emas),
        connected=sum(ema.connected for ema in emas),
        devices=Fill(len(book.devices), book.settings.most_devices_all),
        reports=ReportsStatus(
            stored=sum(ema.reports for ema in emas),
            duplicates=sum(ema.duplicates for ema in emas),
            rejected=sum(ema.rejected for ema in emas),
            deferred=service.intake.deferred,
            waiting=len(book.store.writer),
        ),
        refused=book.refusals.total,
        refusals=book.refusals.shown(),
        rdr_policy=service.rdr.policy,
        vtns=vtn_views(service),
    )
