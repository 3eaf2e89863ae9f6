"""Views that differ everywhere still agree, in few rounds and with few bodies."""

import pytest

from restante.testing.divergence import Divergence, measure


def require_cheap(outcome: Divergence) -> None:
    print(outcome.report())
    assert outcome.certified == outcome.windows, outcome.report()
    assert outcome.median_amendments <= 2, outcome.report()
    assert outcome.ratio <= 2, outcome.report()
    # What was missing had to be sent, but for what came too late for the run: the meter works.
    assert outcome.ratio > 0.9, outcome.report()


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_small_windows_agree(loss: float) -> None:
    require_cheap(measure(loss, windows=2, envelopes=400))


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.001, 0.01, 0.05])
def test_windows_of_3000_agree(loss: float) -> None:
    require_cheap(measure(loss, windows=5, envelopes=3_000))
