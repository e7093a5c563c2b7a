"""All drills, in the order in which they are carried out."""

from typing import Final

from tests.faults.drills import herd, mischief, nodes, postgres, redis
from tests.faults.stage import Drill

HERD: Final = {"people": 2000, "desktops": 0, "talkers": 40, "pace_s": 0.5, "ping_s": 30.0, "pong_s": 30.0}
SMALL_HERD: Final = {**HERD, "people": 400, "talkers": 20, "pace_s": 0.3}
FEW: Final = {"people": 20, "desktops": 4}

DRILLS: Final = [
    Drill("node-killed", "SIGKILL of a node", nodes.kill_one),
    Drill("nodes-killed", "SIGKILL of two of three nodes at once", nodes.kill_two),
    Drill("node-frozen", "SIGSTOP of a node", nodes.freeze, long_s=20, short_s=7),
    Drill("rolling-restart", "SIGTERM and start of each node in turn", nodes.restart_in_turn),
    Drill("crash-untold", "crash of a node between commit and publish", nodes.die_untold),
    Drill("redis-killed", "SIGKILL of Redis, away, empty on return", redis.kill),
    Drill("redis-frozen", "Redis accepts and answers nothing", redis.freeze, long_s=20, short_s=4),
    Drill("redis-flushed", "FLUSHALL, five times", redis.flush, long_s=5),
    Drill("redis-clients", "every Redis client killed, five times", redis.kill_clients, long_s=5),
    Drill("postgres-killed", "SIGKILL of Postgres, away, restart", postgres.kill),
    Drill("postgres-stalled", "Postgres stalled", postgres.stall),
    Drill("postgres-cut", "connections cut in mid-commit", postgres.cut),
    Drill("postgres-lost", "Postgres primary lost, synchronous standby promoted", postgres.fail_over, short_s=1),
    Drill("slow-reader", "a client reads nothing while its group talks", herd.read_nothing, crowd=FEW),
    Drill("all-dropped", "all clients dropped at once", herd.drop_all, crowd=HERD, small=SMALL_HERD),
    Drill("all-restarted", "all nodes killed and started at once", herd.restart_all, crowd=HERD, small=SMALL_HERD),
    Drill("random", "many faults at random, overlapping", mischief.at_random, long_s=120, short_s=12),
    Drill("shard-emptied", "SIGKILL of a Redis Cluster shard, empty on return", redis.empty_shard, bus="cluster"),
    Drill("shard-replaced", "a Redis Cluster shard replaced by its replica", redis.replace_shard, bus="cluster"),
]
