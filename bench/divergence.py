"""What agreement costs when views differ: rounds, bodies and id bytes, by independent loss.

.venv/bin/python bench/divergence.py [--windows 3] [--envelopes 3000]
"""

import argparse
import platform
import sys
import time

from restante.testing.divergence import measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--envelopes", type=int, default=3_000, help="a window")
    parser.add_argument("--validators", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{platform.node()}, {platform.processor() or platform.machine()}, seed {options.seed}")
    for loss in (0.001, 0.01, 0.05):
        began = time.monotonic()
        outcome = measure(
            loss,
            windows=options.windows,
            envelopes=options.envelopes,
            n=options.validators,
            seed=options.seed,
            tell=lambda text: print(text, file=sys.stderr),
        )
        print(outcome.report())
        print(f"  {time.monotonic() - began:.1f} s of computing")


if __name__ == "__main__":
    main()
