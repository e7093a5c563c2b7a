"""`kill -9` in the middle of 200 senders: nothing acknowledged is lost, nothing in doubt is stored twice."""

from collections.abc import Callable

from loadtest.checks.invariants import check
from loadtest.checks.stored import read_stored
from tests.faults.crowd import crowd, new_seed
from tests.faults.process import ServerProcess
from tests.harness import until

SENDERS = 200
BEFORE = 1500  # messages that are acknowledged before each blow
FAST = {"MIM_SEND_RATE": "1000", "MIM_SEND_BURST": "1000"}


async def test_kill_9_in_the_middle_of_200_senders(processes: Callable[..., ServerProcess]) -> None:
    server = processes(**FAST)
    await server.start()
    async with crowd(lambda: [server.ws], SENDERS, new_seed()) as people:
        people.starts_talking()
        await people.talks_on(BEFORE)
        await until(lambda: any(client.record.unacknowledged for client in people.clients))  # all ACKs may come at once
        server.kill()
        assert server.postgres_pids(), "its Postgres outlives the server"
        in_doubt = {(client.record.device, cid) for client in people.clients for cid in client.record.unacknowledged}
        left = await read_stored(server.database_url)
        untold = in_doubt & {(row.device, row.cid) for rows in left.messages.values() for row in rows}
        assert in_doubt, "nobody was sending"
        print(f"{len(in_doubt)} messages in doubt, {len(untold)} of them stored")
        await server.start()
        await people.talks_on(BEFORE)

        server.kill()
        assert server.kill_postgres() > 1
        await server.is_gone()
        await server.start()
        await people.talks_on(BEFORE)

        await people.stops_talking()
        await people.catches_up()
        stored = await read_stored(server.database_url)
        verdict = check([client.record for client in people.clients], stored, in_order=False)
        print(verdict)
        verdict.raise_if_broken()
        assert verdict.acknowledged == verdict.messages >= 3 * BEFORE
    server.terminate()
    assert await server.ends(within_s=15) == 0
    await server.is_gone()
    assert server.complaints() == []
