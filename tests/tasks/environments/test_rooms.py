from collections import deque

import pytest

from engram.tasks.environments.rooms import GOALS, RoomEnv, room

# By layout, the specification's length of the shortest way, and the number of free cells.
SHORTEST = {"open-room": 18, "i-maze": 16, "four-room": 20}
FREE = {"open-room": 100, "i-maze": 19, "four-room": 104}


def shortest(room):
    """Return the actions of a shortest way from the start to the goal."""
    queue, ways = deque([(1, 1)]), {(1, 1): []}
    while queue:
        x, y = queue.popleft()
        for action, there in enumerate([(x, y + 1), (x + 1, y), (x, y - 1), (x - 1, y)]):
            if there not in ways and not room.wall[there]:
                ways[there] = [*ways[x, y], action]
                queue.append(there)
    assert len(ways) == (~room.wall).sum(), "every free cell can be reached"
    return ways[room.goal]


@pytest.mark.parametrize("layout", GOALS)
def test_the_shortest_way_leads_to_the_only_reward(layout):
    env, way = RoomEnv(layout=layout), shortest(room(layout))
    assert len(way) == SHORTEST[layout]
    assert (~room(layout).wall).sum() == FREE[layout]
    env.reset(seed=0)
    steps = [env.step(action)[1:4] for action in way]
    assert steps == [(0.0, False, False)] * (len(way) - 1) + [(1.0, True, False)]


def test_walls_and_doors_of_the_four_rooms():
    wall = room("four-room").wall[1:12, 1:12]
    assert ["".join(".#"[int(cell)] for cell in row) for row in wall.T[::-1]] == [
        ".....#.....",
        "...........",
        ".....#.....",
        ".....#.....",
        ".....###.##",
        "#.####.....",
        ".....#.....",
        ".....#.....",
        "...........",
        ".....#.....",
        ".....#.....",
    ]


def test_time_truncates_and_walls_block():
    env = RoomEnv(layout="i-maze", episode_len=3)
    env.reset(seed=0)
    steps = [env.step(3) for _ in range(3)]
    assert [(seen.tolist(), *rest) for seen, *rest, _ in steps] == [
        ([1.0, 1.0], 0.0, False, False),
        ([1.0, 1.0], 0.0, False, False),
        ([1.0, 1.0], 0.0, False, True),
    ]
