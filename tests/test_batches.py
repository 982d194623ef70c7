"""Test that batches are a pure function of seed, epoch and position, after a resume and with any number of workers."""

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecascade.errors import InputError
from posecascade.geometry import Box
from posecascade.images import shrunk
from posecascade.records import Record
from posecascade.schema import LSP14
from posecascade.training.augment import NONE, Augmentation, load_sample, target
from posecascade.training.batches import LOOK_AHEAD, batches, epoch_order, make_batch, steps_per_epoch

VARIED = replace(Augmentation(), occluder_prob=0)  # pasted objects have their own tests and take time to paint


class Picture:
    """A gray image whose level identifies the person; it counts its reads and may be unreadable."""

    name = "picture"

    def __init__(self, level, fault=None):
        self.level, self.fault, self.reads, self.wait = level, fault, 0, lambda: None

    def read(self, shrink=1):
        self.wait()
        self.reads += 1
        if self.fault:
            raise self.fault
        return shrunk(np.full((64, 64, 3), self.level, np.uint8), shrink)


def people(count, first=0):
    return [Record(Picture(first + i), f"person {first + i}", LSP14, Box(8, 8, 48, 48),
                   np.random.default_rng(first + i).uniform(16, 48, (14, 2)), np.full(14, 2)) for i in range(count)]


def run(records, steps=8, **options):
    how = {"batch_size": 4, "sizes": [(steps, 32)], "augmentation": VARIED, "seed": 7} | options
    return list(batches(records, **how))


def assert_same(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine.images, theirs.images)
        np.testing.assert_array_equal(mine.targets, theirs.targets)
        assert mine.unreadable == theirs.unreadable


def who(batch):
    """Return the level in the middle of each image, which identifies the person in an unvaried crop."""
    return batch.images[:, 16, 16, 0].tolist()


# --- the order ------------------------------------------------------------------------------------------------------

groups = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@given(groups, st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None)
def test_epoch_without_weights_visits_everyone_once(sizes, seed, epoch):
    np.testing.assert_array_equal(np.sort(epoch_order(sizes, None, seed, epoch)), np.arange(sum(sizes)))


@given(groups, st.data())
@settings(deadline=None)
def test_epoch_with_weights_keeps_shares_and_visits_people_equally_often(sizes, data):
    weights = [data.draw(st.floats(0.01, 10)) for _ in sizes]
    order = epoch_order(sizes, weights, 3, 1)
    assert len(order) == sum(sizes)
    for start, size, weight in zip(np.cumsum([0, *sizes[:-1]]), sizes, weights, strict=True):
        visits = np.bincount(order[(order >= start) & (order < start + size)] - start, minlength=size)
        # Both ends of a set's share of the epoch are rounded to a person.
        assert abs(visits.sum() - sum(sizes) * weight / sum(weights)) <= 1 + 1e-9
        assert np.ptp(visits) <= 1


def test_set_of_weight_0_is_excluded_and_sets_are_mixed():
    order = epoch_order([50, 50, 50], [1, 0, 1], 0, 0)
    first = order < 50
    assert not ((order >= 50) & (order < 100)).any()
    assert first.sum() == 75
    # Of 75 and 75 in random order each half of the epoch has some 37 of either; 5 deviations of the hypergeometric.
    assert abs(first[:75].sum() - 37.5) <= 5 * np.sqrt(75 / 4 * 75 / 149)


@pytest.mark.parametrize("weights", [None, [1, 3]], ids=str)
def test_order_depends_on_seed_and_epoch(weights):
    plain = epoch_order([40, 40], weights, 1, 2)
    np.testing.assert_array_equal(plain, epoch_order([40, 40], weights, 1, 2))
    for seed, epoch in ((1, 3), (2, 2)):
        assert (plain != epoch_order([40, 40], weights, seed, epoch)).any()


@pytest.mark.parametrize(("count", "size", "steps"), [(10, 4, 2), (12, 4, 3), (3, 4, 1), (1, 1, 1)])
def test_epoch_has_full_batches_only(count, size, steps):
    assert steps_per_epoch(count, size) == steps


# --- one batch ------------------------------------------------------------------------------------------------------


def test_each_sample_has_its_own_generator():
    records = people(5)
    batch = make_batch(records, [3, 0, 3], 32, VARIED, (7, 1, 2))
    for place, position in enumerate([3, 0, 3]):
        sample = load_sample(records[position], 32, np.random.default_rng([7, 1, 2, place]), VARIED)
        np.testing.assert_array_equal(batch.images[place], sample.image)
        np.testing.assert_array_equal(batch.targets[place], target(sample))
    assert (batch.targets[0] != batch.targets[2]).any()  # the same person, varied otherwise
    assert (batch.images.dtype, batch.targets.dtype) == (np.uint8, np.float32)


def test_unreadable_image_is_gray_with_weight_0_and_others_are_unchanged():
    records = people(4)
    unreadable = replace(records[2], image=Picture(0, InputError("image a.jpg: is not an image")))
    broken = [*records[:2], unreadable, records[3]]
    whole, made = (make_batch(some, range(4), 32, VARIED, (0, 0, 0)) for some in (records, broken))
    assert whole.unreadable == ()
    assert made.unreadable == ("image a.jpg: is not an image",)
    assert (made.images[2] == 127).all()
    assert not made.targets[2].any()
    for place in (0, 1, 3):
        np.testing.assert_array_equal(made.images[place], whole.images[place])
        np.testing.assert_array_equal(made.targets[place], whole.targets[place])


# --- a run ----------------------------------------------------------------------------------------------------------


def test_step_is_a_function_of_seed_epoch_and_position():
    records, all_records = [people(7), people(4, 100)], [*people(7), *people(4, 100)]
    for step, batch in enumerate(run(records, steps=6)):
        epoch, place = divmod(step, 2)  # 11 people in batches of 4
        chosen = epoch_order([7, 4], None, 7, epoch)[4 * place:4 * place + 4]
        assert_same([batch], [make_batch(all_records, chosen, 32, VARIED, (7, epoch, place))])


@pytest.mark.parametrize("weights", [None, [1, 1]], ids=str)
def test_number_of_workers_makes_no_difference(weights):
    records = [people(7), people(4, 100)]
    alone = run(records, workers=1, weights=weights)
    for workers in (2, 5):
        assert_same(alone, run(records, workers=workers, weights=weights))


@given(start=st.integers(0, 8), workers=st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_resumed_run_gets_the_same_batches(start, workers):
    records = [people(7), people(4, 100)]
    sizes = [(3, 16), (8, 32)]
    assert_same(run(records, sizes=sizes)[start:], run(records, sizes=sizes, start=start, workers=workers))


def test_batches_depend_on_the_seed():
    records = [people(11)]
    assert_same(run(records), run(records))
    plain, other = run(records), run(records, seed=8)
    assert any((mine.images != theirs.images).any() for mine, theirs in zip(plain, other, strict=True))


def test_every_epoch_visits_everyone_once_in_its_own_order_and_variation():
    records = [people(8), people(4, 100)]
    made = run(records, steps=9, augmentation=NONE)
    epochs = [[person for batch in made[i:i + 3] for person in who(batch)] for i in (0, 3, 6)]
    for visited in epochs:
        assert sorted(visited) == [*range(8), *range(100, 104)]
    assert len(set(map(tuple, epochs))) == 3
    first, second = run([people(4)], steps=2, augmentation=replace(VARIED, color_jitter=0))
    assert sorted(who(first)) == sorted(who(second)) == [0, 1, 2, 3]
    assert (first.targets[np.argsort(who(first))] != second.targets[np.argsort(who(second))]).any((1, 2)).all()


def test_phases_have_their_crop_size():
    made = run([people(4)], sizes=[(2, 16), (3, 48), (5, 32)])
    assert [batch.images.shape for batch in made] == [(4, side, side, 3) for side in (16, 16, 48, 32, 32)]


def test_fewer_people_than_a_batch_are_repeated_in_it():
    made = run([people(3)], steps=2, batch_size=7, augmentation=NONE)
    for batch in made:
        assert sorted(np.bincount(who(batch))) == [2, 2, 3]


def test_run_without_steps_has_no_batch():
    assert run([people(3)], steps=2, start=2) == []


def test_reads_are_limited_by_the_look_ahead():
    records, seen = people(250), -1
    stream = batches([records], batch_size=4, sizes=[(60, 32)], augmentation=NONE, seed=0, workers=2)
    list(itertools.islice(stream, 3))
    while (reads := sum(record.image.reads for record in records)) > seen:  # until the workers have nothing to do
        seen = reads
        time.sleep(0.1)
    stream.close()
    assert reads <= 4 * (3 + 2 + LOOK_AHEAD)


def test_closed_run_makes_no_more_batches_and_ends_its_workers():
    records, gate, before = people(40), threading.Event(), threading.active_count()
    count = itertools.count()
    for record in records:
        record.image.wait = lambda: next(count) < 4 or gate.wait(30)
    stream = batches([records], batch_size=4, sizes=[(10, 32)], augmentation=NONE, seed=0, workers=1)
    next(stream)
    threading.Timer(0.3, gate.set).start()
    stream.close()
    assert next(count) <= 8  # the first batch, and the one in progress
    gate.wait(30)
    assert threading.active_count() <= before + 1  # the timer


def test_program_error_stops_the_run():
    records = people(8)
    records[5] = replace(records[5], image=Picture(0, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        run([records], steps=2)
