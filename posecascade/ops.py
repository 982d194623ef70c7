"""The tensor operations of codec and losses, from one place, so that another Keras can be put in here."""

from keras.ops import (  # noqa: F401
    abs, arange, cast, exp, expand_dims, log1p, maximum, max, mean, multiply, relu, shape, sigmoid, square, sum,
    where,
)
