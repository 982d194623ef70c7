"""The line with the time left, log.csv, and TensorBoard's own reader finding what was written, restarts included."""

import csv
import io
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from posecascade.training import logging


class Terminal(io.StringIO):
    """Standard error that says it is a terminal, `wide` columns wide."""

    def __init__(self, wide=200):
        super().__init__()
        self.wide = wide

    def isatty(self):
        return True

    def fileno(self):
        return -1


@pytest.fixture
def terminal(monkeypatch):
    """What was drawn on a terminal whose clock goes one second at each look."""
    screen, clock = Terminal(), iter(range(10 ** 6))
    monkeypatch.setattr(logging, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setattr(logging, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    monkeypatch.setattr(os, "get_terminal_size", lambda handle: os.terminal_size((screen.wide, 25)))
    return screen


def lines(screen):
    return [line for line in screen.getvalue().split("\r\x1b[K") if line]


def test_the_line_tells_step_time_left_speed_and_losses(terminal):
    bar = logging.Progressbar(3700, 32)
    for step in range(101, 104):
        bar.show(step, f"{step / 100:.2f}/37", {"loss": 1.23456, "detection": 20.0})
    # One second a step: the first step, which holds the compiler's time, begins the clock and draws nothing.
    assert lines(terminal) == [
        "[                    ] step 102/3700  epoch 1.02/37  0:59:58 left  32 images/s  loss 1.235  detection 20.000",
        "[                    ] step 103/3700  epoch 1.03/37  0:59:57 left  32 images/s  loss 1.235  detection 20.000"]


def test_the_line_fills_up_and_fits_the_terminal(terminal):
    terminal.wide = 40
    bar = logging.Progressbar(20, 4)
    for step in range(1, 21):
        bar.show(step, "1.00/1", {"loss": 1.0})
    assert lines(terminal)[9] == "[===========         ] step 11/20  epoc"
    assert lines(terminal)[-1] == "[====================] step 20/20  epoc"
    assert {len(line) for line in lines(terminal)} == {39}


def test_the_line_makes_room_for_lines_that_stay(terminal):
    bar, told = logging.Progressbar(9, 4), []
    bar.above(told.append)("before")
    assert terminal.getvalue() == ""
    bar.show(1, "", {})
    bar.show(2, "", {})
    bar.above(told.append)("between")
    assert told == ["before", "between"]
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_without_a_terminal_there_is_no_line(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(logging, "sys", SimpleNamespace(stderr=screen))
    bar = logging.Progressbar(5, 4)
    for step in range(5):
        bar.show(step, "", {"loss": 1.0})
    bar.clear()
    assert screen.getvalue() == ""


def test_lines_are_not_drawn_more_often_than_needed(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(logging, "sys", SimpleNamespace(stderr=screen))
    bar = logging.Progressbar(100, 4)  # with the real clock: a hundred steps take far less than _LINE_EVERY
    for step in range(1, 101):
        bar.show(step, "", {})
    assert len(lines(screen)) == 1 and len(lines(screen)[0]) < 80


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0:00:00"), (59.6, "0:01:00"), (3599, "0:59:59"), (90061, "25:01:01"), (-5, "0:00:00")])
def test_clock(seconds, text):
    assert logging.clock(seconds) == text


def test_the_log_is_written_anew_with_every_column(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.25, "result": 50.0}]
    logging.write_log(tmp_path, rows[:1])
    logging.write_log(tmp_path, rows)
    assert [path.name for path in tmp_path.iterdir()] == [logging.LOG]
    with open(tmp_path / logging.LOG, newline="") as text:
        table = list(csv.DictReader(text))
    assert table == [{"epoch": "1", "loss": "0.30000000000000004", "result": ""},
                     {"epoch": "2", "loss": "0.25", "result": "50.0"}]


def read_back(folder):
    found = EventAccumulator(str(folder / logging.EVENTS), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def points(found, tag):
    return [(event.step, event.value) for event in found.Scalars(tag)]


def test_tensorboard_reads_scalars_and_pictures(tmp_path, rng):
    picture = rng.integers(0, 255, (20, 30, 3), np.uint8)
    events = logging.Events(tmp_path, 0)
    events.scalars(50, {"train/loss": 1.5, "train/learning_rate": 1e-3, "left out": None})
    events.image(50, "maps", picture)
    events.scalars(100, {"train/loss": 0.5})
    events.flush()
    found = read_back(tmp_path)  # while it is still open
    assert found.Tags()["scalars"] == ["train/loss", "train/learning_rate"] and found.Tags()["images"] == ["maps"]
    assert points(found, "train/loss") == [(50, 1.5), (100, 0.5)]
    assert points(found, "train/learning_rate") == [(50, pytest.approx(1e-3))]
    [image] = found.Images("maps")
    assert (image.step, image.width, image.height) == (50, 30, 20)
    back = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(back[..., ::-1], picture)
    events.close()


@pytest.mark.parametrize("resumed", [0, 100])
def test_what_a_killed_process_wrote_beyond_the_step_gone_on_from_is_dropped_and_no_more(resumed, tmp_path):
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
