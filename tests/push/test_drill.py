"""Nobody is missed and nobody is disturbed, though a node, a worker and a provider die; the short form of the drill."""

from pathlib import Path

from tests.push.conftest import World
from tests.push.drill import AT_ONCE, drill
from tests.redis_server import RedisServer, needs_redis

SEED = 20261124


@needs_redis
async def test_nobody_is_missed(database_url: str, world: World, tmp_path: Path) -> None:
    redis = RedisServer()
    try:
        await redis.start()
        outcome = await drill(database_url, redis.url, world, tmp_path, devices=2400, outage_s=6.0, seed=SEED)
    finally:
        redis.clean_up()
    print(f"seed {SEED}: {outcome}")
    assert not outcome.missed
    assert outcome.told_though_connected == 0
    assert outcome.doubled <= 2 * 4 * AT_ONCE, "what the two dead had on its way to the four providers, and no more"
