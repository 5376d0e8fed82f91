"""CoAP lamps as a process of their own: ``python -m tests.support.lamp_child EMA_PORT NUMBER:PORT…``.

Prints ``at number watts`` (monotonic seconds, which all processes of a machine share) when a lamp's true draw
changes. A number on standard input is that lamp's switch: somebody puts it on.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from device_agents.run_coap import CoapDevice
from device_agents.simulated import simulated_lamp
from gateway.clock import SystemClock
from gateway.transport.backoff import Backoff

WATTS = 100.0


async def main(ema_port: int, lamps: dict[int, int]) -> None:
    clock = SystemClock()
    runners: dict[int, CoapDevice] = {}
    for number, port in lamps.items():
        agent = simulated_lamp(number, number, 1, clock, WATTS)
        runner = CoapDevice(agent, "127.0.0.1", ema_port, "127.0.0.1", port, clock, 5.0)
        # As after an outage of minutes: it tries to reach its EMA again every 15 to 30 s.
        runner._backoff = Backoff(random.Random(number), 30.0, 30.0)
        runners[number] = runner
    tasks = [asyncio.create_task(runner.run()) for runner in runners.values()]
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: runners[int(sys.stdin.readline())].key(11))
    said: dict[int, int] = {}
    while not any(task.done() for task in tasks):
        for number, runner in runners.items():
            mw = runner.agent.plant.mw()
            if said.get(number) != mw:
                said[number] = mw
                print(time.monotonic(), number, mw / 1000, flush=True)
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    places = dict(place.split(":") for place in sys.argv[2:])
    asyncio.run(main(int(sys.argv[1]), {int(number): int(port) for number, port in places.items()}))
