"""Mail of a domain with `agent = "webhook"` and `host = "URL"` is PUT to URL/ID: twice the same is once (RFC 9110)."""

from urllib.request import Request, urlopen

from mailhub.api import Component, Delivery, IHub, NoOptions, Outcome


class Webhook:
    def __init__(self, options: NoOptions, hub: IHub) -> None:
        self.threads = hub.environment.threads

    async def deliver(self, delivery: Delivery) -> dict[int, Outcome]:
        request = Request(f"{delivery.target}/{delivery.id}", await delivery.body.read(), method="PUT")
        await self.threads.run(lambda: urlopen(request, timeout=20).close())
        return {each.id: Outcome.delivered() for each in delivery.recipients}

    async def stop(self) -> None: ...


webhook = Component("agent", "webhook", Webhook)
