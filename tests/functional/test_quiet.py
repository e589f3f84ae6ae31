import threading
import warnings

import pytest

from sharpkd.functional.quiet import quiet


def test_threads_that_overlap_leave_the_filters_as_they_were() -> None:
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    failures: list[Warning] = []

    def first() -> None:
        with quiet():
            first_is_in.set()
            second_is_in.wait(5)
        first_is_out.set()

    def second() -> None:
        first_is_in.wait(5)
        with quiet():
            second_is_in.set()
            first_is_out.wait(5)
            try:
                warnings.warn("still inside", UserWarning, stacklevel=1)
            except UserWarning as warning:
                failures.append(warning)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert warnings.filters == before
        with pytest.raises(UserWarning, match="outside"):
            warnings.warn("outside", UserWarning, stacklevel=1)


def test_inside_itself_and_after_an_error() -> None:
    with quiet():
        with pytest.raises(ValueError, match="broken"), quiet():
            raise ValueError("broken")
        warnings.warn("still inside", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="outside"):
        warnings.warn("outside", UserWarning, stacklevel=1)
