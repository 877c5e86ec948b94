"""Putting a wrapper of ours around a method of somebody's class, and taking it out again."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_LAYERS_MAX: Final = 64


def put_around(owner: type[Any], method: str, wrapper: Callable[..., Any]) -> Callable[[], bool]:
    """Have `wrapper(wrapped, instance, args, kwargs)` called for `owner.method`; returns what takes it out.

    That one tells whether it is out. It is not where somebody has wrapped the method after us: ours stays underneath
    then, and must let everything pass. A plain function, which others find again when they take out their own.
    """
    own = method in vars(owner)
    inner: Any = vars(owner)[method] if own else getattr(owner, method)

    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return wrapper(inner.__get__(self, owner), self, args, kwargs)

    async def call_async(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await wrapper(inner.__get__(self, owner), self, args, kwargs)

    is_async = inspect.iscoroutinefunction(getattr(owner, method))
    ours: Any = functools.wraps(inner)(call_async if is_async else call)
    setattr(owner, method, ours)

    def take_out() -> bool:
        layer: Any = vars(owner).get(method)
        if layer is ours:
            if own:
                setattr(owner, method, inner)
            else:
                delattr(owner, method)
            return True
        for _ in range(_LAYERS_MAX):
            if layer is ours:
                return False
            layer = getattr(layer, "__wrapped__", None)
        return True  # somebody took off the layer that was on top, meaning their own

    return take_out
