"""Power that devices ask of an EMS: one question a device, its answer, and the quiet after one that got none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.errors import TransientError
from gateway.links.mir2017 import messages as wire

if TYPE_CHECKING:
    from gateway.clock import Clock
    from gateway.links.mir2017.client import ClientOutput
    from gateway.upstream.carrier import UpperClient

# A device whose question was not answered in time is not asked for again for so long: the late answer would be taken
# for that of the next question.
QUIET_S = 10.0


class RdrQuestions:
    """The questions under way."""

    def __init__(
        self, name: str, client: UpperClient, clock: Clock, post: Callable[[Iterable[ClientOutput]], None]
    ) -> None:
        self._name = name
        self._client = client
        self._clock = clock
        self._post = post
        self._waiting: dict[int, asyncio.Future[tuple[bool, str]]] = {}
        self._quiet: dict[int, float] = {}  # until then (monotonic seconds) an answer belongs to an older question

    async def ask(self, number: int, watts: float) -> tuple[bool, str]:
        """(granted, why). Raise ``TransientError`` when the device may not be asked for now."""
        if number in self._waiting:
            raise TransientError(f"{self._name}: dev/{number} asks already")
        if (left := self._quiet.get(number, 0.0) - self._clock.monotonic()) > 0:
            raise TransientError(
                f"{self._name}: dev/{number} was not answered before; it may ask again in {left:.0f} s"
            )
        self._quiet.pop(number, None)
        answer: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._post(self._client.rdr(number, min(math.ceil(max(watts, 0.0)), wire.LARGEST_WATTS)))
            return await answer
        except BaseException:
            self._quiet[number] = self._clock.monotonic() + self._clock.patience(QUIET_S)
            raise
        finally:
            self._waiting.pop(number, None)

    def answered(self, number: int, granted: bool, description: str) -> None:
        """What the EMS says."""
        answer = self._waiting.get(number)
        if answer is None:
            self._quiet.pop(number, None)  # the late one
        elif not answer.done():
            answer.set_result((granted, description or ("OK" if granted else "Deny")))

    def link_broke(self) -> None:
        """No question will be answered any more."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(TransientError(f"{self._name}: the link to the EMS broke"))
