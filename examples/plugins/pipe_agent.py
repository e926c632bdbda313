"""A domain with `agent = "program"`, `host = "/a/file"`: mail is its input, and an id that tells what it has had."""

from mailhub.api import Component, Delivery, IHub, NoOptions, Outcome


class Program:
    def __init__(self, options: NoOptions, hub: IHub) -> None:
        self.processes = hub.environment.processes

    async def deliver(self, delivery: Delivery) -> dict[int, Outcome]:
        ended = await self.processes.run([delivery.target, delivery.id], delivery.body)
        done = Outcome.delivered() if ended.status == 0 else Outcome.delayed(f"the program said {ended.status}")
        return {each.id: done for each in delivery.recipients}

    async def stop(self) -> None: ...


program = Component("agent", "program", Program)
