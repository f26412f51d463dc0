"""Pictures and text of a moment."""

import gymnasium as gym
import numpy as np
import pytest
from playing import TOY, make, play, toy

from sgym.envs import frame


def test_the_picture_shows_memory_queues_and_slack():
    env = make("slots", render_mode="rgb_array", scenario=toy(workload__rate=40.0))
    play(env, lambda env, info: np.zeros(9, int))
    picture = env.render()
    assert picture.dtype == np.uint8
    assert picture.shape == (230, 720, 3)
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert {frame.USED, frame.LATE, frame.INK} <= colours


def test_a_picture_of_many_instances_and_of_a_long_queue_is_of_limited_size():
    env = make(render_mode="rgb_array", scenario=toy(cluster__instances=6, workload__rate=20.0))
    env.reset(seed=0)
    assert env.render().shape == (40 + 4 * 190, 720, 3)
    env = make(render_mode="rgb_array", scenario=toy(workload__rate=400.0))
    play(env, lambda env, info: 18)
    assert env.render().shape == (230, 720, 3)


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
