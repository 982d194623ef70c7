"""The tensor operations of codec and losses, from one place, so that another Keras can be put in here."""

from keras.ops import (  # noqa: F401
    arange,
    cast,
    exp,
    expand_dims,
    log1p,
    maximum,
    minimum,
    ones_like,
    shape,
    sigmoid,
    square,
    sum,
    where,
)
