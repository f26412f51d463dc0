"""Pictures and text of a moment."""

import gymnasium as gym
import numpy as np
import pytest
from cluster_logs import busy_simulator
from playing import TOY, make, play, toy

from sgym.core.layout import Role, Transfer
from sgym.envs import frame, panel
from sgym.simulator import Simulator


def test_the_picture_shows_memory_queues_and_slack():
    env = make("slots", render_mode="rgb_array", scenario=toy(workload__rate=40.0))
    play(env, lambda env, info: np.zeros(9, int))
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == (230, 720, 3)
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert {frame.USED, frame.LATE, frame.INK} <= colours


@pytest.mark.parametrize(
    ("instances", "height"),
    [
        (1, 230),
        (2, 420),
        (3, 454),
        (4, 592),
        (5, 510),
        (8, 792),
        (12, 1168),
        (13, 1192),
        (90, 1192),
    ],
)
def test_the_size_of_a_picture_depends_on_the_number_of_instances_alone(instances, height):
    assert frame.size_of(instances) == (720 if instances == 1 else 870, height)
    busy = toy(cluster__instances=instances, workload__rate=20.0 * instances)
    env = make(render_mode="rgb_array", scenario=busy)
    env.reset(seed=0)
    empty = env.render()
    for _ in range(10):
        env.step(0)
    assert empty.shape == env.render().shape == (height, frame.size_of(instances)[0], 3)


def test_a_long_queue_does_not_change_the_size_of_the_picture():
    env = make(render_mode="rgb_array", scenario=toy(workload__rate=400.0))
    play(env, lambda env, info: 18)
    assert env.render().shape == (230, 720, 3)


def test_instances_that_do_not_fit_are_summed_up_in_a_line():
    state = Simulator(toy(cluster__instances=14)).state
    above = frame.picture(state, "toy")
    state.instances["num_waiting"][13] = 0
    state.instances["num_running"][13] = 7
    below = frame.picture(state, "toy")
    assert (above != below).any(axis=(1, 2)).nonzero()[0].min() > 40 + 12 * 94


def midway() -> Simulator:
    """The cluster of `cluster_logs`, stopped while KV is on its way between two instances."""
    simulator = busy_simulator(0)
    while simulator.state.cluster[0]["num_transfers"] < 2:
        simulator.step()
    return simulator


def test_transfers_are_arrows_beside_the_instances():
    state = midway().state
    arrow = frame.ARROW_COLOURS["hand-off"]
    with_arrows = drawn(frame.picture(state, "toy")[30:], arrow)
    assert with_arrows.sum() > 100
    assert with_arrows[:, : frame.WIDTH - 20].sum() == 0
    state.cluster["num_transfers"] = 0
    assert drawn(frame.picture(state, "toy")[30:], arrow).sum() == 0


def test_a_migration_has_a_colour_of_its_own():
    state = midway().state
    state.transfers["kind"] = int(Transfer.LAST_STAGE)
    assert drawn(frame.picture(state, "toy")[30:], frame.ARROW_COLOURS["migration"]).any()


def test_memory_held_for_transfers_is_marked_in_the_bar():
    state = midway().state
    row = frame.layout_of(4)
    held = panel.elsewhere(state).held
    assert held.any()
    picture = frame.picture(state, "toy")
    for index in range(4):
        line = picture[frame.TITLE + index * row.height + row.memory + 6]
        pixels = drawn(line, frame.HELD).sum()
        assert pixels == pytest.approx(held[index] / 20 * (frame.RIGHT - frame.LEFT), abs=2)


def test_the_text_shows_roles_transfers_and_what_is_held_for_them():
    simulator = midway()
    simulator.state.instances["next_role"][1] = int(Role.DECODE)
    text = frame.text(simulator.state, "toy")
    assert "instance 0 (prefill)  KV [" in text
    assert "instance 1 (prefill, becomes decode)  KV [" in text
    assert "instance 2 (decode)  KV [" in text
    assert "+]" in text or "+ " in text
    assert " loading" in text
    assert " leaving" in text
    entry = simulator.state.transfers[0]
    assert (
        f"transfer {entry['source']} -> {entry['target']}: request {entry['request']}, hand-off, "
        f"{entry['remaining'] / 1e6:.1f} MB to go"
    ) in text


def test_host_memory_is_named_where_requests_are_swapped():
    state = Simulator(toy(engine__preemption_mode="swap")).state
    state.instances["free_host_blocks"] = state.engines["host_blocks"] // 2
    assert panel.traffic(state, 0, panel.elsewhere(state)) == ["host 50%"]


def drawn(picture: np.ndarray, colour: frame.Colour) -> np.ndarray:
    """Where a picture has a colour."""
    return (picture == np.array(colour)).all(axis=-1)


def test_the_picture_shows_the_reserve():
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(10):
        env.step(15)  # spf, half of the expected output kept free
    assert env._simulator.state.instances["reserve"][0] > 0
    assert frame.RESERVED in {tuple(pixel) for pixel in env.render().reshape(-1, 3)}


def test_the_text_names_the_requests_and_marks_what_the_agent_sees():
    env = make("slots", render_mode="ansi", scenario=toy(workload__rate=40.0))
    play(env, lambda env, info: np.zeros(9, int))
    lines = env.render().split("\n")
    assert lines[0] == "toy  t = 3.000 s of 3 s"
    assert lines[1].startswith("instance 0  KV [#")
    waiting = next(line for line in lines if "waiting" in line)
    assert int(waiting.split()[1]) > 24
    assert lines[-1].strip().startswith("and ")
    assert sum(line.count("*") for line in lines) == 8


def test_slack_has_a_colour():
    assert frame.slack_colour(3.0) == frame.slack_colour(1.0) == frame.CALM
    assert frame.slack_colour(0.0) == frame.TENSE
    assert frame.slack_colour(-9.0) == frame.LATE


def test_without_a_mode_nothing_is_drawn_and_a_warning_says_so():
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="no render mode"):
        assert env.render() is None


def test_an_environment_can_be_drawn_before_its_first_episode():
    env = gym.make("sgym/Colocated-v0", scenario=TOY, render_mode="ansi").unwrapped
    assert env.render().startswith("toy")
