"""The progress bar, log.csv, and event files that TensorBoard's own reader understands, after a restart too."""

import csv
import io
import re
import sys
import time

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from posecascade.training import logging


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self):
        return True


def opened(monkeypatch, screen):
    """Make `screen` standard error. Called by tests: pytest's own capture would undo it after a fixture."""
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def drawn(screen):
    return [line.rstrip() for line in screen.getvalue().split("\r") if line.strip()]


def test_progress_bar_shows_step_time_left_speed_and_losses(monkeypatch):
    terminal = opened(monkeypatch, Terminal())
    bar = logging.ProgressBar(3700)
    bar.show(101, "1.01/37", {"loss": 1.5})
    time.sleep(0.6)
    bar.show(111, "1.11/37", {"loss": 1.23456, "detection": 20.0})
    first, second = drawn(terminal)
    assert re.fullmatch(r"3%\|.*\| 101/3700 \[00:00<\?, \?step/s\]", first.strip())
    # Ten steps in 0.6 s or a little more: about 3,589 more take 3.5 minutes or a little more.
    assert re.fullmatch(r"epoch 1\.11/37:   3%\|.*\| 111/3700 \[00:0\d<0[3-9]:\d\d, +\d+\.\d\dstep/s, loss=1\.23, "
                        r"detection=20\]", second)
    bar.close()


def test_progress_bar_makes_room_for_lines_above_it(monkeypatch):
    terminal = opened(monkeypatch, Terminal())
    bar = logging.ProgressBar(9)
    bar.above(lambda line: terminal.write(f"{line}\n"))("before")
    assert terminal.getvalue() == "before\n"
    bar.show(1, "0.1/1", {})
    bar.above(lambda line: terminal.write(f"{line}\n"))("between")
    assert re.search(r"1/9 .*\r +\rbetween\n\r *.* 1/9 ", terminal.getvalue())
    bar.close()
    assert terminal.getvalue().endswith("\r")


def test_progress_bar_is_silent_when_standard_error_is_no_terminal(monkeypatch):
    screen = opened(monkeypatch, io.StringIO())
    bar, lines = logging.ProgressBar(5), []
    for step in range(1, 6):
        bar.show(step, "1/1", {"loss": 1.0})
    bar.above(lines.append)("a line")
    bar.close()
    assert screen.getvalue() == "" and lines == ["a line"]


def test_progress_bar_is_redrawn_at_most_twice_a_second(monkeypatch):
    terminal = opened(monkeypatch, Terminal())
    bar = logging.ProgressBar(100)
    for step in range(1, 101):
        bar.show(step, "1/1", {})
    assert len(drawn(terminal)) <= 2
    bar.close()


def test_log_is_rewritten_with_every_column(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.25, "result": 50.0}]
    logging.write_log(tmp_path, rows[:1])
    logging.write_log(tmp_path, rows)
    assert [path.name for path in tmp_path.iterdir()] == [logging.LOG]
    with open(tmp_path / logging.LOG, newline="") as text:
        table = list(csv.DictReader(text))
    assert table == [{"epoch": "1", "loss": "0.30000000000000004", "result": ""},
                     {"epoch": "2", "loss": "0.25", "result": "50.0"}]


def read_back(folder):
    events = EventAccumulator(str(folder / logging.EVENTS), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def points(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_reads_scalars_and_images(tmp_path, rng):
    written = rng.integers(0, 255, (20, 30, 3), np.uint8)
    events = logging.Events(tmp_path, 0)
    events.scalars(50, {"train/loss": 1.5, "train/learning_rate": 1e-3, "skipped": None})
    events.image(50, "maps", written)
    events.scalars(100, {"train/loss": 0.5})
    events.flush()
    read = read_back(tmp_path)  # while it is still open
    assert read.Tags()["scalars"] == ["train/loss", "train/learning_rate"] and read.Tags()["images"] == ["maps"]
    assert points(read, "train/loss") == [(50, 1.5), (100, 0.5)]
    assert points(read, "train/learning_rate") == [(50, pytest.approx(1e-3))]
    [image] = read.Images("maps")
    assert (image.step, image.width, image.height) == (50, 30, 20)
    back = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(back[..., ::-1], written)
    events.close()


@pytest.mark.parametrize("resumed", [0, 100])
def test_events_beyond_the_resumed_step_are_dropped(resumed, tmp_path):
    killed = logging.Events(tmp_path, 0)
    for step in (50, 100, 150):
        killed.scalars(step, {"loss": float(step)})
    killed.flush()
    with open(next((tmp_path / logging.EVENTS).iterdir()), "ab") as file:
        file.write(b"half an event")
    again = logging.Events(tmp_path, resumed)
    for step in range(resumed + 50, 201, 50):
        again.scalars(step, {"loss": -float(step)})
    again.close()
    assert len(list((tmp_path / logging.EVENTS).iterdir())) == 2
    assert points(read_back(tmp_path), "loss") == [(step, float(step if step <= resumed else -step))
                                                   for step in (50, 100, 150, 200)]
    killed.close()
