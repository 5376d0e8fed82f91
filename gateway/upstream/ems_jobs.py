"""What the EMS tells us to do, carried out one after another, in the order it came."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from gateway.errors import TransientError
from gateway.field.once import Once
from gateway.links.mir2017.client import DeviceControl, Dimming, EventReceived
from gateway.site.command import Source
from gateway.site.resource import Setting

if TYPE_CHECKING:
    from gateway.upstream.base import UpperInputs
    from gateway.upstream.ems_events import EventDesk

# More that wait than this is a flood.
MOST_JOBS = 1000
Job = EventReceived | DeviceControl | Dimming


class Jobs:
    """A bounded queue with one worker. What does not fit is dropped and counted; the EMS says events again."""

    def __init__(self, name: str, inputs: UpperInputs, events: EventDesk, log: logging.Logger) -> None:
        self.dropped = 0
        self.events = 0
        self._name = name
        self._inputs = inputs
        self._desk = events
        self._log = log
        self._once = Once(log)
        self._queue: asyncio.Queue[Job] = asyncio.Queue(MOST_JOBS)

    def put(self, job: Job) -> None:
        """Never blocks."""
        try:
            self._queue.put_nowait(job)
        except asyncio.QueueFull:
            level = logging.DEBUG if self.dropped else logging.WARNING
            self.dropped += 1
            self._log.log(level, "%s: %d messages wait to be carried out; dropped one", self._name, MOST_JOBS)

    async def run(self) -> None:
        """Carry out until cancelled."""
        while True:
            job = await self._queue.get()
            try:
                await self._carry_out(job)
            except TransientError as err:  # a full disk: not answered, so the EMS says it again
                self._once.say("job", "held", f"{self._name}: not carried out to its end: {err}")
            except Exception as err:  # one message must not end the session with its EMS
                self._log.debug("%s: %s", self._name, job, exc_info=True)
                text = f"{self._name}: {type(job).__name__} could not be carried out: {type(err).__name__}: {err}"
                self._once.say("fault", (type(job), type(err)), text)
            else:
                if isinstance(job, EventReceived):
                    self._once.over("job", "held", f"{self._name}: events are answered again")

    async def _carry_out(self, job: Job) -> None:
        match job:
            case EventReceived(event=event):
                self.events += 1
                await self._desk.take(event)
            case DeviceControl(number=number, on=on):
                said = await self._inputs.take_setting(number, Setting(on=on), Source.EMS)
                self._log.info("%s: dev/%d %s: %s", self._name, number, "on" if on else "off", said)
            case Dimming(number=number, step=step):
                said = await self._inputs.take_dimming(number, step, Source.EMS)
                self._log.info("%s: dev/%d dimming %+d: %s", self._name, number, step, said)
