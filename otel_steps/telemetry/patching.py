"""Putting a wrapper of ours around a method of somebody's class, and taking it out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable


def put_around(owner: type[Any], method: str, wrapper: Callable[..., Any]) -> Callable[[], bool]:
    """Have `wrapper` called for `owner.method`; returns what takes it out.

    That one tells False where somebody has wrapped the method after us: ours stays underneath then, and must let
    everything pass.
    """
    own = method in vars(owner)
    ours = wrapt.wrap_function_wrapper(owner, method, wrapper)

    def take_out() -> bool:
        if vars(owner).get(method) is not ours:
            return False
        if own:
            setattr(owner, method, ours.__wrapped__)
        else:
            delattr(owner, method)
        return True

    return take_out
